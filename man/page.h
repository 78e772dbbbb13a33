#pragma once

// Sources of manual pages (scdoc(5)) that have parts which our tables say. Such a part stands in
// the page between two comments, so that who reads the source reads all of it:
//
//   ; begin NAME ARGUMENT
//   ...
//   ; end
//
// `man_text --check` fails where a part is not what the tables say now, `man_text --write` puts it
// right. Text around the parts is written by hand.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tidegate {

// What stands between `; begin NAME ARGUMENT` and `; end`: whole lines. The argument may be empty.
// Nothing: there is no such part.
using PartWriter =
    std::function<std::optional<std::string>(std::string_view name, std::string_view argument)>;

// `page` with every part as `writer` says it. Error: kConfig, naming the line, for a part that
// nobody writes or that does not end.
Result<std::string> FillParts(std::string_view page, const PartWriter& writer);

// The first line that differs, as "LINE: THIS IS THERE / THAT IS MEANT", for people. Empty: none.
std::string FirstDifference(std::string_view there, std::string_view meant);

// `text` so that scdoc takes every character for itself.
std::string Escaped(std::string_view text);
// The first letter in upper case, a full stop at the end.
std::string Sentence(std::string_view text);

}  // namespace tidegate
