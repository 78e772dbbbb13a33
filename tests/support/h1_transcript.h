#pragma once

// What a decoder makes of the octets of a connection, as text: two ways of cutting the same octets
// must give the same text. Used by the unit tests and by the fuzz targets.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "proxy/http/h1_decoder.h"

namespace tidegate::h1_transcript {

// A field that says that it is a line, and is none, spoils the text.
inline std::string Written(const Field& field) {
  std::string text = std::string(field.name) + ": " + std::string(field.value);
  return field.is_line && field.line() != text + "\r\n" ? text + " IS NO LINE" : text;
}

inline void AppendHead(const Head& head, std::string& out) {
  static constexpr std::string_view kBodies[] = {"none", "length", "chunked", "until close"};
  out += " 1." + std::to_string(head.minor_version);
  out += head.keep_alive ? " keep" : " close";
  out += " body=" + std::string(kBodies[static_cast<std::size_t>(head.body)]);
  if (head.body == BodyKind::kLength) {
    out += ":" + std::to_string(head.content_length);
  }
  if (!head.upgrade.empty()) {
    out += " upgrade=" + std::string(head.upgrade);
  }
  out += "\n";
  for (const Field& field : head.fields) {
    out += "  " + Written(field) + "\n";
  }
}

inline std::string HeadText(const RequestHead& head) {
  std::string text(head.method_name);
  text += " " + std::string(head.target) + " host=" + std::string(head.authority);
  text += head.expects_continue ? " 100-continue" : "";
  AppendHead(head, text);
  return text;
}

inline std::string HeadText(const ResponseHead& head) {
  std::string text = std::to_string(head.status) + " [" + std::string(head.reason) + "]";
  AppendHead(head, text);
  return text;
}

// The outcome of a whole connection.
struct Transcript {
  // Of each message that came to its end: head, body, trailers.
  std::string complete;
  std::vector<std::string> bodies;
  // Of the last one if it did not. What an error hides is not here.
  std::string partial;
  // The log name of the error, or empty. `error_detail` is its detail.
  std::string error;
  std::string error_detail;
  // After a 101, of a tunnel; or what was left when `max_messages` were read.
  std::string left;
  // What Finish said at the end of the input.
  std::string finish;

  std::string Text() const {
    return complete + "--\n" + partial + "--\n" + error + "--\n" + left + "--\n" + finish;
  }
};

struct Options {
  DecoderLimits limits;
  // Responses: what was asked, one a final response; the last one for all that follow.
  std::vector<Method> methods = {Method::kGet};
};

// `cut(left)` says how many of the octets that are left the next Decode gets: 1 to `left`.
using Cut = std::function<std::size_t(std::size_t left)>;

template <class HeadType>
class Reader {
 public:
  explicit Reader(const Options& options)
      : options_(options),
        decoder_(kIsRequest ? H1Decoder::ForRequests(options.limits)
                            : H1Decoder::ForResponses(options.limits)) {}

  Transcript Read(std::string_view input, const Cut& cut) {
    Begin();
    while (!input.empty() && !over_) {
      std::size_t size = cut(input.size());
      // A buffer of its own: reading beyond it is seen by AddressSanitizer, writing does not change
      // the input.
      std::vector<char> piece(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(size));
      std::size_t used = Feed(piece);
      input.remove_prefix(used);
    }
    if (transcript_.error.empty()) {
      transcript_.left = input;
    }
    if (!over_) {
      Finish();
    }
    return transcript_;
  }

 private:
  static constexpr bool kIsRequest = std::is_same_v<HeadType, RequestHead>;

  void Begin() {
    if constexpr (kIsRequest) {
      decoder_.BeginRequest(head_);
    } else {
      const std::size_t last = options_.methods.size() - 1;
      decoder_.BeginResponse(head_, options_.methods[std::min(finals_, last)]);
    }
    head_text_.clear();
    body_.clear();
  }

  std::size_t Feed(std::vector<char>& piece) {
    std::size_t at = 0;
    while (at < piece.size() && !over_) {
      const std::span<char> rest(piece.data() + at, piece.size() - at);
      auto step = decoder_.Decode(rest);
      if (!step) {
        transcript_.error = RowOf(step.error().kind()).log_name;
        transcript_.error_detail = step.error().detail();
        over_ = true;
        return piece.size();
      }
      Check(step->consumed <= rest.size());
      Check(step->end || step->consumed == rest.size());
      Check(step->body.empty() ||
            (step->body.data() >= rest.data() &&
             step->body.data() + step->body.size() <= rest.data() + step->consumed));
      at += step->consumed;
      Take(*step);
    }
    return at;
  }

  void Take(const H1Decoder::Step& step) {
    if (step.head) {
      Check(head_text_.empty());
      head_text_ = HeadText(head_);
    }
    body_.append(step.body.begin(), step.body.end());
    if (!step.end) {
      return;
    }
    Check(!head_text_.empty());
    transcript_.complete += MessageText();
    transcript_.bodies.push_back(body_);
    head_text_.clear();
    if constexpr (!kIsRequest) {
      finals_ += head_.IsInterim() ? 0 : 1;
      over_ = head_.status == 101;
    }
    if (!over_) {
      Begin();
    }
  }

  // What has come of the message; its trailers are complete only at the end.
  std::string MessageText() const {
    if (head_text_.empty()) {
      return {};
    }
    std::string text = head_text_ + "[" + body_ + "]\n";
    for (const Field& field : head_.trailers) {
      text += "  +" + Written(field) + "\n";
    }
    return text;
  }

  void Finish() {
    head_.trailers.Clear();
    transcript_.partial = MessageText();
    const bool started = decoder_.started();
    auto step = decoder_.Finish();
    if (step) {
      Check(step->end && step->body.empty() && step->consumed == 0);
      transcript_.complete += transcript_.partial;
      transcript_.bodies.push_back(body_);
      transcript_.partial.clear();
      transcript_.finish = "end";
    } else {
      transcript_.finish = std::string(RowOf(step.error().kind()).log_name) +
                           (started ? " (started)" : " (not started)");
    }
  }

  static void Check(bool holds) {
    if (!holds) {
      std::abort();
    }
  }

  const Options& options_;
  H1Decoder decoder_;
  HeadType head_;
  Transcript transcript_;
  std::string head_text_;
  std::string body_;
  std::size_t finals_ = 0;
  bool over_ = false;
};

inline std::size_t Whole(std::size_t left) {
  return left;
}
inline std::size_t OctetByOctet(std::size_t) {
  return 1;
}
// The first piece has `size` octets, the rest comes in one.
inline Cut After(std::size_t size) {
  return [size, first = true](std::size_t left) mutable {
    return std::exchange(first, false) ? std::min(size, left) : left;
  };
}

inline Transcript ReadRequests(std::string_view input, const Options& options = {},
                               const Cut& cut = Whole) {
  return Reader<RequestHead>(options).Read(input, cut);
}
inline Transcript ReadResponses(std::string_view input, const Options& options = {},
                                const Cut& cut = Whole) {
  return Reader<ResponseHead>(options).Read(input, cut);
}

}  // namespace tidegate::h1_transcript
