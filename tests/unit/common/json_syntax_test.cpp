#include "common/json_syntax.h"

#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

using namespace std::string_view_literals;

// `offset+length: message | suggestion` of the only fault.
std::string FaultIn(std::string_view text) {
  JsonDocument document = ReadJson(text, 0);
  if (document.root || document.faults.size() != 1) {
    return "no fault";
  }
  const JsonFault& fault = document.faults.front();
  return std::to_string(fault.place.offset) + "+" + std::to_string(fault.place.length) + ": " +
         fault.message + (fault.suggestion.empty() ? "" : " | " + fault.suggestion);
}

TEST(JsonSyntax, EachMistakeIsNamedAtItsPlace) {
  struct Row {
    std::string_view text;
    std::string_view fault;
  };
  for (const Row& row : {
           Row{R"({"a":1,})", "6+1: a comma before '}' | remove this comma"},
           Row{R"([1,])", "2+1: a comma before ']' | remove this comma"},
           Row{R"({"a":1,,"b":2})", "7+1: two commas in a row | remove one"},
           Row{R"({"a":1 "b":2})", "6+0: a comma is missing between two members | write ',' here"},
           Row{R"([1 2])", "2+0: a comma is missing between two values | write ',' here"},
           Row{R"({"a" 1})", "4+0: a ':' is missing after a key | write ':' here"},
           Row{R"({"a"=1})", "4+1: '=' where ':' should be | write ':'"},
           Row{R"({"a":})", "5+1: a value is missing before '}'"},
           Row{R"({a:1})", "1+1: a key stands in double quotes | write \"a\""},
           Row{R"({"b":1, a:1})", "8+1: a key stands in double quotes | write \"a\""},
           Row{R"({'a':1})", "1+3: text stands in double quotes, not in single ones | write \"a\""},
           Row{R"({"a":'b'})",
               "5+3: text stands in double quotes, not in single ones | write \"b\""},
           Row{R"({"a":30s})",
               "5+3: 30s is not a number; text stands in double quotes | write \"30s\""},
           Row{R"({"a":007})", "5+3: a number does not begin with 0 | write 7"},
           Row{R"({"a":1.})",
               "5+2: 1. is not a number; text stands in double quotes | write \"1.\""},
           Row{R"({"a":.5})",
               "5+2: .5 is not a number; text stands in double quotes | write \".5\""},
           Row{R"({"a":+5})",
               "5+2: +5 is not a number; text stands in double quotes | write \"+5\""},
           Row{R"({"a":-})", "5+1: - is not a number; text stands in double quotes | write \"-\""},
           Row{R"({"a":1e999})", "5+5: the number 1e999 is too large"},
           Row{R"({"a":True})",
               "5+4: True is not a JSON value; text stands in double quotes | write true"},
           Row{R"({"a":off})",
               "5+3: off is not a JSON value; text stands in double quotes | write \"off\""},
           Row{R"({"a":/run/x})",
               "5+6: /run/x is not a JSON value; text stands in double quotes | write \"/run/x\""},
           Row{R"({"a":1]})",
               "6+1: ']' does not close the object that begins on line 1 | write '}'"},
           Row{R"([1})", "2+1: '}' does not close the array that begins on line 1 | write ']'"},
           Row{R"([})", "1+1: this '}' closes an array | write ']'"},
           Row{R"({])", "1+1: this ']' closes an object | write '}'"},
           Row{R"({"a":[1)",
               "5+1: the file ends inside an array that begins here | close it with ']'"},
           Row{R"({"a":1,)",
               "0+1: the file ends inside an object that begins here | close it with '}'"},
           Row{R"({"a")",
               "0+1: the file ends inside an object that begins here | close it with '}'"},
           Row{R"({"a":)",
               "0+1: the file ends inside an object that begins here | close it with '}'"},
           Row{R"({} /* x)", "3+2: this comment does not end | close it with */"},
           Row{R"({"a": /* x)", "6+2: this comment does not end | close it with */"},
           Row{R"({"a":1, /* x)", "8+2: this comment does not end | close it with */"},
           Row{R"({} {})", "3+1: more text after the end of the configuration"},
           Row{"# x\n{}", "0+1: a comment begins with //, not with #"},
           Row{R"({"a":1 # x)", "7+1: a comment begins with //, not with #"},
           Row{R"({"a":"b)", "5+2: this string does not end | close it with '\"'"},
           Row{"{\"a\":\"b\nc\"}",
               "5+2: this string does not end on its line | close it with '\"'"},
           Row{R"({"a":"\q"})", "6+2: JSON has no such escape | write \\\\ for a backslash"},
           Row{R"({"a":"\u12"})", "6+2: JSON has no such escape | write \\\\ for a backslash"},
           Row{R"({"a":"\ud800"})",
               "5+8: a \\u escape in this string is not a character | write the character itself"},
           Row{"{\"a\":\"\x01\"}",
               "6+1: a control character (0x01) inside a string | write \\u0001"},
           Row{"{\"a\":\"\xff\"}", "6+1: the byte 0xff is not UTF-8 | save the file as UTF-8"},
           Row{"{\"a\":\xff}", "5+1: the byte 0xff is not UTF-8 | save the file as UTF-8"},
           Row{"{\xe2\x80\x9c", "1+3: this character has no place outside a string"},
           Row{"{\"a\":1;}", "6+1: ';' where ',' should be | write ','"},
           Row{"[\"a\":1]", "4+1: a key inside an array | write { \"key\": value }"},
           Row{"{:1}", "1+1: a key is missing before ':'"},
           Row{"{{}}", "1+1: a key is missing before '{' | write \"key\": in front of it"},
           Row{"\x01", "0+1: a control character (0x01) has no place here"},
           Row{"@", "0+1: '@' has no place here"},
       }) {
    EXPECT_EQ(FaultIn(row.text), row.fault) << row.text;
  }
}

TEST(JsonSyntax, AnEmptyFileIsToldTheSmallestConfiguration) {
  for (std::string_view text : {"", " \n", "// x", "\xef\xbb\xbf"}) {
    EXPECT_TRUE(FaultIn(text).starts_with("0+0: the file is empty | the smallest")) << text;
  }
}

TEST(JsonSyntax, EveryBeginningOfATextIsExplainedWithinIt) {
  std::string_view text =
      "{\"a\": [1, -2.5e+3, true, \"\\u00e4\\\"\"], /* c */ \"b\": {\"c\": null} // d\n}";
  for (std::size_t size = 0; size < text.size(); ++size) {
    JsonDocument document = ReadJson(text.substr(0, size), 0);
    ASSERT_FALSE(document.root);
    ASSERT_EQ(document.faults.size(), 1U);
    EXPECT_FALSE(document.faults[0].message.empty());
    EXPECT_LE(document.faults[0].place.offset + document.faults[0].place.length, size);
  }
}

TEST(JsonSyntax, BlanksAreSkippedWithComments) {
  EXPECT_EQ(SkipBlanks(" \t\r\n// a\n/* b */x", 0), 16U);
  EXPECT_EQ(SkipBlanks("/x", 0), 0U);
  EXPECT_EQ(SkipBlanks("/* x", 0), 4U);
  EXPECT_EQ(SkipBlanks("", 0), 0U);
}

TEST(JsonSyntax, ATokenEndsWhereTheLexerStops) {
  struct Row {
    std::string_view text;
    std::size_t end;
  };
  for (const Row& row :
       {Row{"\"a\\\"b\"c", 6}, Row{"-1.5e+3,", 7}, Row{"04", 1}, Row{"30s", 2}, Row{"1.x", 1},
        Row{"1ex", 1}, Row{"true]", 4}, Row{"{}", 1}, Row{"\"open", 5}, Row{"-", 1}}) {
    EXPECT_EQ(TokenEnd(row.text, 0), row.end) << row.text;
  }
}

}  // namespace
}  // namespace tidegate
