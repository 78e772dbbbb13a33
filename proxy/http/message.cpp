#include "proxy/http/message.h"

#include <array>

namespace tidegate {
namespace {

struct MethodRow {
  std::string_view name;
  Method method;
  bool idempotent;
};

// In the order of the enumeration.
constexpr std::array kMethods = {
    MethodRow{"GET", Method::kGet, true},         MethodRow{"HEAD", Method::kHead, true},
    MethodRow{"POST", Method::kPost, false},      MethodRow{"PUT", Method::kPut, true},
    MethodRow{"DELETE", Method::kDelete, true},   MethodRow{"CONNECT", Method::kConnect, false},
    MethodRow{"OPTIONS", Method::kOptions, true}, MethodRow{"TRACE", Method::kTrace, true},
    MethodRow{"PATCH", Method::kPatch, false},
};

}  // namespace

Method MethodOf(std::string_view name) {
  for (const MethodRow& row : kMethods) {
    if (row.name == name) {
      return row.method;
    }
  }
  return Method::kOther;
}

bool IsIdempotent(Method method) {
  return method != Method::kOther && kMethods[static_cast<std::size_t>(method)].idempotent;
}

void Head::ClearHead() {
  fields.Clear();
  trailers.Clear();
  arena.Clear();
  body = BodyKind::kNone;
  content_length = 0;
  minor_version = 1;
  is_http2 = false;
  keep_alive = true;
  upgrade = {};
}

void RequestHead::Clear() {
  ClearHead();
  method = Method::kOther;
  method_name = {};
  target = {};
  authority = {};
  expects_continue = false;
}

std::string_view RequestHead::path() const {
  return target.substr(0, target.find('?'));
}

std::string_view RequestHead::query() const {
  const std::size_t mark = target.find('?');
  return mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1);
}

std::string_view RequestHead::host() const {
  const std::size_t bracket = authority.find(']');
  return authority.substr(0, authority.find(':', bracket == std::string_view::npos ? 0 : bracket));
}

void ResponseHead::Clear() {
  ClearHead();
  status = 0;
  reason = {};
}

}  // namespace tidegate
