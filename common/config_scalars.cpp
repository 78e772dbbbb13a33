// Value types that are one JSON value: flags, counts, durations, sizes, words and texts.

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/config_reader.h"
#include "common/config_settings.h"
#include "common/config_source.h"
#include "common/config_words.h"
#include "common/text.h"
#include "common/units.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;

// A value that a variable stands for; see ExpandVariables.
constexpr std::string_view kVariablePattern = R"(\$\{)";

Json OrVariable(Json schema) {
  return {{"anyOf",
           Json::array({std::move(schema), {{"type", "string"}, {"pattern", kVariablePattern}}})}};
}

Json TextSchema(std::string_view pattern) {
  return {{"type", "string"}, {"pattern", fmt::format("{}|{}", pattern, kVariablePattern)}};
}

// Flags.

void ReadFlag(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
              const std::string& path, void* field) {
  auto& value = *static_cast<bool*>(field);
  if (node.kind == JsonNode::Kind::kFlag) {
    value = node.flag;
  } else if (node.expanded && (node.text == "true" || node.text == "false")) {
    value = node.text == "true";
  } else {
    bool near = node.kind == JsonNode::Kind::kString &&
                (node.text == "true" || node.text == "on" || node.text == "yes");
    bool far = node.kind == JsonNode::Kind::kString &&
               (node.text == "false" || node.text == "off" || node.text == "no");
    reader.Expected(node, path, "true or false", near ? "write true" : far ? "write false" : "");
  }
}

// Counts. `word` is what stands for "no number": "off", "auto", or empty.

std::string RangeText(const Range& range) {
  return fmt::format("{} to {}", range.least, range.most);
}

// Nothing if there was a fault; otherwise the count, or kUnlimited for the word.
std::optional<std::uint64_t> ReadCountOr(std::string_view word, SettingReader& reader,
                                         const Setting& setting, const JsonNode& node,
                                         const std::string& path) {
  std::string what = word.empty() ? "a number" : fmt::format("a number or \"{}\"", word);
  std::optional<std::int64_t> number;
  if (node.kind == JsonNode::Kind::kInteger) {
    number = node.integer;
  } else if (node.kind == JsonNode::Kind::kString && !word.empty() && node.text == word) {
    return kUnlimited;
  } else if (node.kind == JsonNode::Kind::kString && !node.text.empty() &&
             std::ranges::all_of(node.text, IsDigit)) {
    std::int64_t parsed = 0;
    auto [end, error] =
        std::from_chars(node.text.data(), node.text.data() + node.text.size(), parsed);
    if (!node.expanded) {
      reader.Expected(node, path, what, fmt::format("write {} without quotes", node.text));
      return std::nullopt;
    }
    number = error == std::errc{} ? parsed : -1;
  } else if (node.kind == JsonNode::Kind::kReal) {
    if (std::ranges::all_of(node.text, [](char c) { return IsDigit(c) || c == '-'; })) {
      reader.Fault(node, path, fmt::format("{} is out of range", node.text),
                   fmt::format("the range is {}", RangeText(setting.range)));
    } else {
      reader.Fault(node, path, fmt::format("expected a whole number, not {}", node.text));
    }
    return std::nullopt;
  } else if (node.kind == JsonNode::Kind::kString && !word.empty()) {
    reader.Fault(node, path, fmt::format("expected {}, not \"{}\"", what, node.text));
    return std::nullopt;
  } else {
    reader.Expected(node, path, what);
    return std::nullopt;
  }
  if (*number < 0 || static_cast<std::uint64_t>(*number) < setting.range.least ||
      static_cast<std::uint64_t>(*number) > setting.range.most) {
    reader.Fault(node, path, fmt::format("{} is out of range", *number),
                 fmt::format("the range is {}", RangeText(setting.range)));
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(*number);
}

void ReadCount(SettingReader& reader, const Setting& setting, const JsonNode& node,
               const std::string& path, void* field) {
  if (auto count = ReadCountOr("", reader, setting, node, path)) {
    *static_cast<std::uint64_t*>(field) = *count;
  }
}

void ReadCountOrOff(SettingReader& reader, const Setting& setting, const JsonNode& node,
                    const std::string& path, void* field) {
  if (auto count = ReadCountOr("off", reader, setting, node, path)) {
    *static_cast<std::uint64_t*>(field) = *count;
  }
}

template <class Count>
void ReadCountOrAuto(SettingReader& reader, const Setting& setting, const JsonNode& node,
                     const std::string& path, void* field) {
  if (auto count = ReadCountOr("auto", reader, setting, node, path)) {
    auto& value = *static_cast<std::optional<Count>*>(field);
    value = *count == kUnlimited ? std::nullopt : std::optional<Count>(static_cast<Count>(*count));
  }
}

Json WriteCount(const Setting& /*setting*/, const void* field) {
  std::uint64_t value = *static_cast<const std::uint64_t*>(field);
  return value == kUnlimited ? Json("off") : Json(value);
}

template <class Count>
Json WriteCountOrAuto(const Setting& /*setting*/, const void* field) {
  const auto& value = *static_cast<const std::optional<Count>*>(field);
  return value ? Json(*value) : Json("auto");
}

Json CountSchema(const Setting& setting) {
  return OrVariable(
      {{"type", "integer"}, {"minimum", setting.range.least}, {"maximum", setting.range.most}});
}

template <char... Word>
Json CountOrWordSchema(const Setting& setting) {
  Json schema = CountSchema(setting);
  schema["anyOf"].push_back({{"const", std::string{Word...}}});
  return schema;
}

// Durations and sizes: texts with a unit.

std::string WithUnit(const JsonNode& node, std::string_view unit) {
  return fmt::format("{}{}", node.integer, unit);
}

template <bool kOffAllowed>
void ReadDuration(SettingReader& reader, const Setting& setting, const JsonNode& node,
                  const std::string& path, void* field) {
  if (node.kind == JsonNode::Kind::kInteger) {
    reader.Fault(node, path, "a duration needs a unit",
                 fmt::format("write \"{}\", not {}", WithUnit(node, "s"), node.integer));
    return;
  }
  if (!reader.IsText(node, path, "a duration such as \"30s\"")) {
    return;
  }
  auto duration = ParseDuration(node.text);
  if (!duration) {
    reader.Fault(node, path, duration.error());
    return;
  }
  if (*duration == kNever) {
    if (!kOffAllowed) {
      reader.Fault(node, path, "this cannot be off",
                   fmt::format("the default is \"{}\"", setting.default_text));
      return;
    }
  } else if (auto count = static_cast<std::uint64_t>(duration->count());
             count < setting.range.least || count > setting.range.most) {
    auto limit = [](std::uint64_t ms) {
      return FormatDuration(Duration(static_cast<Duration::rep>(ms)));
    };
    std::string off = kOffAllowed && count == 0 ? ", or \"off\" for never" : "";
    reader.Fault(node, path, fmt::format("\"{}\" is out of range", node.text),
                 fmt::format("the range is \"{}\" to \"{}\"{}", limit(setting.range.least),
                             limit(setting.range.most), off));
    return;
  }
  *static_cast<Duration*>(field) = *duration;
}

Json WriteDuration(const Setting& /*setting*/, const void* field) {
  return FormatDuration(*static_cast<const Duration*>(field));
}

constexpr std::string_view kDurationPattern =
    "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

Json DurationSchema(const Setting& /*setting*/) {
  return TextSchema(kDurationPattern);
}
Json DurationOrOffSchema(const Setting& /*setting*/) {
  return TextSchema(fmt::format("^off$|{}", kDurationPattern));
}

template <bool kOffAllowed>
void ReadSize(SettingReader& reader, const Setting& setting, const JsonNode& node,
              const std::string& path, void* field) {
  if (node.kind == JsonNode::Kind::kInteger) {
    reader.Fault(node, path, "a size needs a unit",
                 fmt::format("write \"{}\", not {}", WithUnit(node, "B"), node.integer));
    return;
  }
  if (!reader.IsText(node, path, "a size such as \"32KiB\"")) {
    return;
  }
  auto size = ParseSize(node.text);
  if (!size) {
    reader.Fault(node, path, size.error());
    return;
  }
  if (*size == kUnlimited) {
    if (!kOffAllowed) {
      reader.Fault(node, path, "this cannot be off",
                   fmt::format("the default is \"{}\"", setting.default_text));
      return;
    }
  } else if (*size < setting.range.least || *size > setting.range.most) {
    reader.Fault(node, path, fmt::format("\"{}\" is out of range", node.text),
                 fmt::format("the range is \"{}\" to \"{}\"", FormatSize(setting.range.least),
                             FormatSize(setting.range.most)));
    return;
  }
  *static_cast<std::uint64_t*>(field) = *size;
}

Json WriteSize(const Setting& /*setting*/, const void* field) {
  return FormatSize(*static_cast<const std::uint64_t*>(field));
}

constexpr std::string_view kSizePattern = "^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$";

Json SizeSchema(const Setting& /*setting*/) {
  return TextSchema(kSizePattern);
}
Json SizeOrOffSchema(const Setting& /*setting*/) {
  return TextSchema(fmt::format("^off$|{}", kSizePattern));
}

// Sizes a second.

void ReadByteRate(SettingReader& reader, const Setting& setting, const JsonNode& node,
                  const std::string& path, void* field) {
  if (node.kind == JsonNode::Kind::kInteger) {
    reader.Fault(node, path, "a rate needs a unit",
                 fmt::format("write \"{}\", not {}", WithUnit(node, "B/s"), node.integer));
    return;
  }
  if (!reader.IsText(node, path, "a rate such as \"1KiB/s\"")) {
    return;
  }
  std::string_view text = node.text;
  bool off = text == "off";
  bool ends_well = text.ends_with("/s");
  auto rate = ParseSize(ends_well ? text.substr(0, text.size() - 2) : text);
  if (!rate || (!off && (!ends_well || *rate == kUnlimited))) {
    reader.Fault(node, path, fmt::format("\"{}\" is not a rate", text),
                 "write e.g. \"500B/s\", \"1KiB/s\" or \"off\"");
  } else if (!off && (*rate < setting.range.least || *rate > setting.range.most)) {
    reader.Fault(node, path, fmt::format("\"{}\" is out of range", text),
                 fmt::format("the range is \"{}/s\" to \"{}/s\"", FormatSize(setting.range.least),
                             FormatSize(setting.range.most)));
  } else {
    *static_cast<std::uint64_t*>(field) = *rate;
  }
}

Json WriteByteRate(const Setting& /*setting*/, const void* field) {
  std::uint64_t rate = *static_cast<const std::uint64_t*>(field);
  return rate == kUnlimited ? "off" : FormatSize(rate) + "/s";
}

Json ByteRateSchema(const Setting& /*setting*/) {
  return TextSchema("^off$|^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)/s$");
}

// Words: enums of one octet.

void ReadChoice(SettingReader& reader, const Setting& setting, const JsonNode& node,
                const std::string& path, void* field) {
  std::string choice = QuotedChoice(setting.choices);
  if (!reader.IsText(node, path, choice)) {
    return;
  }
  auto found = std::ranges::find(setting.choices, node.text);
  if (found == setting.choices.end()) {
    auto nearest = Nearest(node.text, setting.choices);
    reader.Fault(node, path, fmt::format("expected {}, not \"{}\"", choice, node.text),
                 nearest ? fmt::format("did you mean \"{}\"?", *nearest) : "");
    return;
  }
  *static_cast<std::uint8_t*>(field) = static_cast<std::uint8_t>(found - setting.choices.begin());
}

Json WriteChoice(const Setting& setting, const void* field) {
  return setting.choices[*static_cast<const std::uint8_t*>(field)];
}

Json ChoiceSchema(const Setting& setting) {
  Json words = Json::array();
  for (std::string_view word : setting.choices) {
    words.push_back(word);
  }
  return OrVariable({{"enum", std::move(words)}});
}

// Statuses.

constexpr std::array<int, 5> kRedirectStatuses = {301, 302, 303, 307, 308};

void ReadStatus(SettingReader& reader, const Setting& setting, const JsonNode& node,
                const std::string& path, void* field) {
  if (auto status = ReadCountOr("", reader, setting, node, path)) {
    *static_cast<int*>(field) = static_cast<int>(*status);
  }
}

void ReadRedirectStatus(SettingReader& reader, const Setting& setting, const JsonNode& node,
                        const std::string& path, void* field) {
  auto status = ReadCountOr("", reader, setting, node, path);
  if (!status) {
    return;
  }
  if (*status > 999 ||
      std::ranges::find(kRedirectStatuses, static_cast<int>(*status)) == kRedirectStatuses.end()) {
    reader.Fault(node, path, fmt::format("{} is not the status of a redirect", *status),
                 "it is 301, 302, 303, 307 or 308");
    return;
  }
  *static_cast<int*>(field) = static_cast<int>(*status);
}

Json WriteStatus(const Setting& /*setting*/, const void* field) {
  return *static_cast<const int*>(field);
}
Json RedirectStatusSchema(const Setting& /*setting*/) {
  return OrVariable({{"enum", kRedirectStatuses}});
}

// Texts, each with its check.

template <auto Check>
void ReadText(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
              const std::string& path, void* field) {
  if (!reader.IsText(node, path, "a string")) {
    return;
  }
  Result<std::string> text = Check(node.text);
  if (!text) {
    reader.Fault(node, path, text.error());
    return;
  }
  *static_cast<std::string*>(field) = std::move(*text);
}

Result<std::string> AnyText(std::string_view text) {
  return std::string(text);
}

Json WriteText(const Setting& /*setting*/, const void* field) {
  return EscapeVariables(*static_cast<const std::string*>(field));
}

Json AnyTextSchema(const Setting& /*setting*/) {
  return {{"type", "string"}};
}
Json PathSchema(const Setting& /*setting*/) {
  return TextSchema("^/");
}
Json NonEmptySchema(const Setting& /*setting*/) {
  return {{"type", "string"}, {"minLength", 1}};
}

// Addresses.

void ReadBindAddress(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
                     const std::string& path, void* field) {
  if (!reader.IsText(node, path, "an address such as \":8080\"")) {
    return;
  }
  auto address = ParseAddress(node.text);
  if (!address) {
    reader.Fault(node, path, address.error());
    return;
  }
  if (address->kind == Address::Kind::kTcp && !address->is_literal()) {
    bool local = address->host == "localhost";
    reader.Fault(node, path, "a listener has an IP address, not a name",
                 local ? fmt::format("write \"127.0.0.1:{}\"", address->port)
                       : "write the address itself, or \":port\" for all");
    return;
  }
  *static_cast<Address*>(field) = std::move(*address);
}

void ReadEndpointAddress(SettingReader& reader, const Setting& /*setting*/, const JsonNode& node,
                         const std::string& path, void* field) {
  if (!reader.IsText(node, path, "an address such as \"127.0.0.1:3000\"")) {
    return;
  }
  auto address = ParseAddress(node.text);
  if (!address) {
    reader.Fault(node, path, address.error());
  } else if (address->kind == Address::Kind::kSystemd) {
    reader.Fault(node, path, "systemd gives sockets to accept on, not endpoints");
  } else if (address->kind == Address::Kind::kTcp && address->host.empty()) {
    reader.Fault(node, path, "an endpoint needs a host",
                 fmt::format("write \"127.0.0.1:{}\"", address->port));
  } else if (address->kind == Address::Kind::kTcp && address->port == 0) {
    reader.Fault(node, path, "an endpoint cannot have port 0");
  } else {
    *static_cast<Address*>(field) = std::move(*address);
  }
}

Json WriteAddress(const Setting& /*setting*/, const void* field) {
  return EscapeVariables(static_cast<const Address*>(field)->ToString());
}

Json AddressSchema(const Setting& /*setting*/) {
  return TextSchema("^unix:/|^systemd:|:[0-9]+$");
}

}  // namespace

const ValueType kFlag{
    "true or false", &ReadFlag,
    [](const Setting&, const void* field) { return Json(*static_cast<const bool*>(field)); },
    [](const Setting&) { return OrVariable({{"type", "boolean"}}); }};
const ValueType kCount{"number", &ReadCount, &WriteCount, &CountSchema};
const ValueType kCountOrOff{"number or off", &ReadCountOrOff, &WriteCount,
                            &CountOrWordSchema<'o', 'f', 'f'>};
const ValueType kCountOrAuto{"number or auto", &ReadCountOrAuto<std::uint64_t>,
                             &WriteCountOrAuto<std::uint64_t>,
                             &CountOrWordSchema<'a', 'u', 't', 'o'>};
const ValueType kWorkersOrAuto{"number or auto", &ReadCountOrAuto<unsigned>,
                               &WriteCountOrAuto<unsigned>, &CountOrWordSchema<'a', 'u', 't', 'o'>};
const ValueType kDuration{"duration", &ReadDuration<false>, &WriteDuration, &DurationSchema};
const ValueType kDurationOrOff{"duration or off", &ReadDuration<true>, &WriteDuration,
                               &DurationOrOffSchema};
const ValueType kSize{"size", &ReadSize<false>, &WriteSize, &SizeSchema};
const ValueType kSizeOrOff{"size or off", &ReadSize<true>, &WriteSize, &SizeOrOffSchema};
const ValueType kByteRateOrOff{"size/s or off", &ReadByteRate, &WriteByteRate, &ByteRateSchema};
const ValueType kChoice{"word", &ReadChoice, &WriteChoice, &ChoiceSchema};
const ValueType kStatus{"status", &ReadStatus, &WriteStatus, &CountSchema};
const ValueType kRedirectStatus{"status", &ReadRedirectStatus, &WriteStatus, &RedirectStatusSchema};
const ValueType kBody{"text", &ReadText<&AnyText>, &WriteText, &AnyTextSchema};
const ValueType kName{"name", &ReadText<&CheckName>, &WriteText, &NonEmptySchema};
const ValueType kUser{"user", &ReadText<&CheckUser>, &WriteText, &NonEmptySchema};
const ValueType kServerName{"host", &ReadText<&CheckServerName>, &WriteText, &NonEmptySchema};
const ValueType kPathPrefix{"path", &ReadText<&CheckPathPrefix>, &WriteText, &PathSchema};
const ValueType kLocation{"URL or path", &ReadText<&CheckLocation>, &WriteText, &NonEmptySchema};
const ValueType kFile{"path", &ReadText<&CheckFile>, &WriteText, &NonEmptySchema};
const ValueType kErrorLog{"path or stream", &ReadText<&CheckErrorLog>, &WriteText, &NonEmptySchema};
const ValueType kAccessLog{"path or stream", &ReadText<&CheckAccessLog>, &WriteText,
                           &NonEmptySchema};
const ValueType kBindAddress{"address", &ReadBindAddress, &WriteAddress, &AddressSchema};
const ValueType kEndpointAddress{"address", &ReadEndpointAddress, &WriteAddress, &AddressSchema};

}  // namespace tidegate
