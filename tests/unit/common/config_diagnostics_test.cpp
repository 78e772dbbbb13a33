#include "common/config_diagnostics.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

Place PlaceOf(std::string_view text, std::string_view what) {
  return {0, static_cast<std::uint32_t>(text.find(what)), static_cast<std::uint32_t>(what.size())};
}

TEST(ConfigDiagnostics, TheLayoutIsThatOfTheInterface) {
  std::string text = std::string(13, '\n') + "      \"upsteam\": \"app\",\n";
  Diagnostics diagnostics;
  diagnostics.AddFile("/etc/tidegate/tidegate.json", text);
  diagnostics.AddError(PlaceOf(text, "\"upsteam\""), "routes[2]", "unknown key \"upsteam\"",
                       "did you mean \"upstream\"?");
  EXPECT_EQ(FormatDiagnostics(diagnostics.Take()),
            "/etc/tidegate/tidegate.json:14:7: error: routes[2]: unknown key \"upsteam\"\n"
            "   14 |       \"upsteam\": \"app\",\n"
            "      |       ^~~~~~~~~ did you mean \"upstream\"?\n"
            "1 error.\n");
}

TEST(ConfigDiagnostics, ErrorsAndWarningsAreCounted) {
  auto summary = [](int errors, int warnings) {
    Diagnostics diagnostics;
    diagnostics.AddFile("f", "x");
    for (int i = 0; i < errors; ++i) {
      diagnostics.AddError({}, "", "e");
    }
    for (int i = 0; i < warnings; ++i) {
      diagnostics.AddWarning({}, "", "w");
    }
    EXPECT_EQ(diagnostics.error_count(), static_cast<std::size_t>(errors));
    std::string text = FormatDiagnostics(diagnostics.Take());
    return text.empty() ? text : text.substr(text.rfind('\n', text.size() - 2) + 1);
  };
  EXPECT_EQ(summary(2, 1), "2 errors, 1 warning.\n");
  EXPECT_EQ(summary(1, 0), "1 error.\n");
  EXPECT_EQ(summary(0, 2), "2 warnings.\n");
  EXPECT_EQ(summary(0, 0), "");
}

TEST(ConfigDiagnostics, TheyComeInTheOrderOfTheirPlaces) {
  Diagnostics diagnostics;
  diagnostics.AddFile("a", "one two\nthree");
  diagnostics.AddFile("b", "four");
  diagnostics.AddError({1, 0, 4}, "", "4");
  diagnostics.AddWarning({0, 8, 5}, "", "3");
  diagnostics.AddError({0, 4, 3}, "", "2");
  diagnostics.AddError({0, 4, 3}, "", "2 again");
  diagnostics.AddError({0, 0, 3}, "", "1");
  std::string order;
  for (const Diagnostic& d : diagnostics.Take()) {
    order += d.message + ",";
  }
  EXPECT_EQ(order, "1,2,2 again,3,4,");
  EXPECT_TRUE(diagnostics.Take().empty());
}

TEST(ConfigDiagnostics, ColumnsCountCharactersAndTabsAreOne) {
  std::string text = "\t\"\xc3\xa4\xe2\x82\xac\": x";
  Diagnostics diagnostics;
  diagnostics.AddFile("f", text);
  diagnostics.AddError(PlaceOf(text, "x"), "", "m");
  diagnostics.AddError(PlaceOf(text, "\xe2\x82\xac\""), "", "m");
  auto found = diagnostics.Take();
  EXPECT_EQ(found[0].column, 4U);
  EXPECT_EQ(found[0].length, 2U);
  EXPECT_EQ(found[1].column, 8U);
  EXPECT_EQ(found[1].source_line, " \"\xc3\xa4\xe2\x82\xac\": x");
}

TEST(ConfigDiagnostics, TheUnderlineStaysOnItsLine) {
  std::string text = "{ \"a\": {\r\n} }";
  Diagnostics diagnostics;
  diagnostics.AddFile("f", text);
  diagnostics.AddError({0, 7, 5}, "", "m");
  diagnostics.AddError({0, static_cast<std::uint32_t>(text.size()), 0}, "", "behind the end");
  auto found = diagnostics.Take();
  EXPECT_EQ(found[0].source_line, "{ \"a\": {");
  EXPECT_EQ(found[0].length, 1U);
  EXPECT_EQ(found[1].line, 2U);
  EXPECT_EQ(found[1].column, 4U);
}

TEST(ConfigDiagnostics, LongLinesAreCutAroundThePlace) {
  std::string text = std::string(500, 'a') + "HERE" + std::string(500, 'b');
  Diagnostics diagnostics;
  diagnostics.AddFile("f", text);
  diagnostics.AddError(PlaceOf(text, "HERE"), "", "m");
  diagnostics.AddError({0, 0, 1000}, "", "all of it");
  auto found = diagnostics.Take();
  EXPECT_LE(found[0].source_line.size(), 116U);
  EXPECT_EQ(found[0].column, 1U);
  EXPECT_LE(found[0].length, 110U);
  EXPECT_EQ(found[1].column, 501U);
  EXPECT_EQ(found[1].source_line.substr(found[1].column_shown - 1, 4), "HERE");
}

TEST(ConfigDiagnostics, NothingReachesTheTerminalThatItWouldObey) {
  std::string text = "\x1b[2J\x07\xc2\x9b\xff";
  Diagnostics diagnostics;
  diagnostics.AddFile("f", text);
  diagnostics.AddError({0, 0, 1}, text, text, text);
  std::string shown = FormatDiagnostics(diagnostics.Take());
  EXPECT_EQ(shown.find_first_of("\x1b\x07\x9b\xff"), std::string::npos);
  EXPECT_NE(shown.find("?[2J?"), std::string::npos);
}

TEST(ConfigDiagnostics, AdviceInAnErrorBecomesTheSuggestion) {
  Diagnostics diagnostics;
  diagnostics.AddFile("f", "x");
  diagnostics.AddError({}, "p", Error(ErrorKind::kConfig, "a; b; write c"));
  diagnostics.AddError({}, "p", Error(ErrorKind::kConfig, "no advice"));
  auto found = diagnostics.Take();
  EXPECT_EQ(found[0].message, "a; b");
  EXPECT_EQ(found[0].suggestion, "write c");
  EXPECT_EQ(found[1].suggestion, "");
}

TEST(ConfigDiagnostics, AFaultWithoutAPlaceIsOneLine) {
  Diagnostics diagnostics;
  diagnostics.AddError("f", "gone");
  EXPECT_EQ(FormatDiagnostics(diagnostics.Take()), "f: error: gone\n1 error.\n");
}

TEST(ConfigDiagnostics, JsonHasEveryPart) {
  Diagnostics diagnostics;
  diagnostics.AddFile("f\xff", "\nx");
  diagnostics.AddWarning({0, 1, 1}, "a.b", "m", "s");
  EXPECT_EQ(DiagnosticsJson(diagnostics.Take()),
            "[{\"severity\":\"warning\",\"file\":\"f\xef\xbf\xbd\",\"line\":2,\"column\":1,"
            "\"path\":\"a.b\","
            "\"message\":\"m\",\"suggestion\":\"s\"}]");
}

TEST(ConfigDiagnostics, AByteOrderMarkIsNoColumn) {
  Diagnostics diagnostics;
  diagnostics.AddFile("f", "\xef\xbb\xbf{}");
  diagnostics.AddError({0, 3, 2}, "", "m");
  diagnostics.AddError({0, 0, 0}, "", "m");
  for (const Diagnostic& d : diagnostics.Take()) {
    EXPECT_EQ(d.column, 1U);
    EXPECT_EQ(d.source_line, "{}");
  }
}

}  // namespace
}  // namespace tidegate
