#pragma once

#include <string>
#include <string_view>

namespace tidegate {

// The completion script for `bash`, `zsh` or `fish`, made from the table in commands.h: every
// command, option, choice and file argument. Empty for another shell.
std::string CompletionScript(std::string_view shell);

}  // namespace tidegate
