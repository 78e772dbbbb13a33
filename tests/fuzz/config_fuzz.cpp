// A configuration file of anybody's making. No input may crash; what is accepted must survive its
// effective form; every fault must have a place within the text and be printable.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "common/config_load.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace tidegate {
namespace {

std::optional<std::string> Variable(std::string_view name) {
  return name == "A" ? std::optional<std::string>("value ${B}") : std::nullopt;
}

// Includes would read whatever the input names. The key may be written with escapes of its letters,
// U+0063 to U+0075.
bool NamesAnInclude(std::string_view text) {
  return text.find("include") != std::string_view::npos ||
         text.find("\\u006") != std::string_view::npos ||
         text.find("\\u007") != std::string_view::npos;
}

void CheckDiagnostics(const std::vector<Diagnostic>& diagnostics) {
  for (const Diagnostic& d : diagnostics) {
    TG_CHECK(d.line > 0 && d.column > 0 && d.length > 0 && d.column_shown > 0 &&
             !d.message.empty());
    TG_CHECK(d.source_line.size() <= 4 * 120);
  }
  for (char c : FormatDiagnostics(diagnostics)) {
    TG_CHECK(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
  }
  TG_CHECK(!DiagnosticsJson(diagnostics).empty());
}

void LoadOne(std::string_view text) {
  auto loaded = LoadConfigText("fuzz", text, &Variable);
  CheckDiagnostics(loaded ? loaded->warnings : loaded.error());
  if (!loaded) {
    TG_CHECK(!loaded.error().empty());
    return;
  }
  auto again = ParseEffectiveConfig(loaded->effective);
  TG_CHECK(again && *again == loaded->config);
  TG_CHECK(EffectiveJson(*again) == loaded->effective);
  TG_CHECK(DiffConfig(loaded->config, *again).empty());
  TG_CHECK(!PrintEffective(*loaded).empty());
  TG_CHECK(!loaded->config.listeners.empty() && !loaded->config.routes.empty());
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!tidegate::NamesAnInclude(text)) {
    tidegate::LoadOne(text);
  }
  return 0;
}
