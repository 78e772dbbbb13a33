#include "supervisor/completion.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include <fmt/format.h>

#include "supervisor/commands.h"

namespace tidegate {
namespace {

std::vector<OptionRow> OptionsOf(const CommandRow* command) {
  if (command == nullptr) {
    return {GlobalOptions().begin(), GlobalOptions().end()};
  }
  std::vector<OptionRow> rows(command->options.begin(), command->options.end());
  std::ranges::copy(GlobalOptionsOf(*command), std::back_inserter(rows));
  return rows;
}

// `--config -c --socket ...`
std::string Words(const std::vector<OptionRow>& rows) {
  std::string text;
  for (const OptionRow& row : rows) {
    text += fmt::format("{}--{}", text.empty() ? "" : " ", row.name);
    if (row.letter != 0) {
      text += fmt::format(" -{}", row.letter);
    }
  }
  return text;
}

std::string Joined(std::span<const std::string_view> words) {
  return fmt::format("{}", fmt::join(words, " "));
}

std::string CommandNames() {
  std::vector<std::string_view> names;
  for (const CommandRow& row : Commands()) {
    names.push_back(row.name);
  }
  return Joined(names);
}

// `text` for single quotes; zsh's _arguments also gives [ ] and : a meaning.
std::string Quoted(std::string_view text, std::string_view special = "") {
  std::string quoted;
  for (char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
      continue;
    }
    if (special.contains(c)) {
      quoted += '\\';
    }
    quoted += c;
  }
  return quoted;
}

// What completes a value in bash: a line that sets COMPREPLY.
std::string BashValue(ValueKind kind, std::span<const std::string_view> choices) {
  if (kind == ValueKind::kChoice) {
    return fmt::format("mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")", Joined(choices));
  }
  if (kind == ValueKind::kFile) {
    return "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\")";
  }
  return ":";
}

std::string BashScript() {
  std::string text =
      "# bash completion of tidegate; made by: tidegate completion bash\n"
      "_tidegate() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command='' i\n"
      "  COMPREPLY=()\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case ${COMP_WORDS[i]} in\n";
  // A value that happens to be a command's name is not the command.
  std::string valued;
  for (const OptionRow& row : GlobalOptions()) {
    if (row.kind != ValueKind::kFlag) {
      valued += fmt::format("{}--{}{}", valued.empty() ? "" : "|", row.name,
                            row.letter != 0 ? fmt::format("|-{}", row.letter) : "");
    }
  }
  text += fmt::format("      {}) ((i++)) ;;\n", valued);
  text +=
      "      -*) ;;\n"
      "      *) command=${COMP_WORDS[i]}; break ;;\n"
      "    esac\n"
      "  done\n"
      "  case $command:$previous in\n";
  for (const OptionRow& row : GlobalOptions()) {
    if (row.kind != ValueKind::kFlag) {
      std::string pattern = fmt::format("*:--{}", row.name);
      if (row.letter != 0) {
        pattern += fmt::format("|*:-{}", row.letter);
      }
      text += fmt::format("    {}) {}; return ;;\n", pattern, BashValue(row.kind, row.choices));
    }
  }
  for (const CommandRow& command : Commands()) {
    for (const OptionRow& row : command.options) {
      if (row.kind != ValueKind::kFlag) {
        text += fmt::format("    {}:--{}) {}; return ;;\n", command.name, row.name,
                            BashValue(row.kind, row.choices));
      }
    }
  }
  text +=
      "  esac\n"
      "  local words\n"
      "  case $command in\n";
  text += fmt::format("    '') words='{} {}' ;;\n", CommandNames(), Words(OptionsOf(nullptr)));
  for (const CommandRow& command : Commands()) {
    text += fmt::format("    {}) words='{}'", command.name, Words(OptionsOf(&command)));
    for (const ArgumentRow& argument : command.arguments) {
      if (argument.kind == ValueKind::kChoice) {
        text += fmt::format("; [[ $word == -* ]] || words='{}'", Joined(argument.choices));
      } else if (argument.kind == ValueKind::kFile) {
        text += fmt::format("; [[ $word == -* ]] || {{ {}; return; }}",
                            BashValue(argument.kind, argument.choices));
      }
    }
    text += " ;;\n";
  }
  text +=
      "    *) return ;;\n"
      "  esac\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
      "}\n"
      "complete -F _tidegate tidegate\n";
  return text;
}

std::string ZshValue(std::string_view metavar, ValueKind kind,
                     std::span<const std::string_view> choices) {
  switch (kind) {
    case ValueKind::kFlag:
      return "";
    case ValueKind::kFile:
      return fmt::format(":{}:_files", metavar);
    case ValueKind::kChoice:
      return fmt::format(":{}:({})", metavar, Joined(choices));
    case ValueKind::kText:
    case ValueKind::kCount:
    case ValueKind::kDuration:
      return fmt::format(":{}: ", metavar);
  }
  return "";
}

std::string ZshOption(const OptionRow& row) {
  std::string help = Quoted(row.help, "[]:\\");
  std::string value = ZshValue(row.metavar, row.kind, row.choices);
  std::string repeat = row.repeatable ? "*" : "";
  std::string text = fmt::format(" \\\n    '{}--{}[{}]{}'", repeat, row.name, help, value);
  if (row.letter != 0) {
    text += fmt::format(" \\\n    '-{}[{}]{}'", row.letter, help, value);
  }
  return text;
}

std::string ZshScript() {
  std::string text =
      "#compdef tidegate\n"
      "# zsh completion of tidegate; made by: tidegate completion zsh\n"
      "_tidegate() {\n"
      "  local context state state_descr line\n"
      "  local -a commands\n"
      "  typeset -A opt_args\n"
      "  commands=(\n";
  for (const CommandRow& command : Commands()) {
    text += fmt::format("    '{}:{}'\n", command.name, Quoted(command.summary, ":\\"));
  }
  text +=
      "  )\n"
      "  _arguments -C";
  for (const OptionRow& row : GlobalOptions()) {
    text += ZshOption(row);
  }
  text +=
      " \\\n    '1: :->command' '*:: :->rest'\n"
      "  case $state in\n"
      "    command) _describe -t commands 'command' commands ;;\n"
      "    rest)\n"
      "      case $line[1] in\n";
  for (const CommandRow& command : Commands()) {
    text += fmt::format("  {}) _arguments", command.name);
    for (const OptionRow& row : OptionsOf(&command)) {
      text += ZshOption(row);
    }
    for (const ArgumentRow& argument : command.arguments) {
      text += fmt::format(" \\\n    '{}{}'", argument.required ? "1" : "1:",
                          ZshValue(argument.metavar, argument.kind, argument.choices));
    }
    text += " ;;\n";
  }
  text +=
      "      esac ;;\n"
      "  esac\n"
      "}\n"
      "if [[ $funcstack[1] == _tidegate ]]; then _tidegate \"$@\"; else compdef _tidegate "
      "tidegate; fi\n";
  return text;
}

std::string FishOption(std::string_view condition, const OptionRow& row) {
  std::string text = fmt::format("complete -c tidegate{} -l {}", condition, row.name);
  if (row.letter != 0) {
    text += fmt::format(" -s {}", row.letter);
  }
  if (row.kind == ValueKind::kFile) {
    text += " -r -F";
  } else if (row.kind == ValueKind::kChoice) {
    text += fmt::format(" -x -a '{}'", Joined(row.choices));
  } else if (row.kind != ValueKind::kFlag) {
    text += " -x";
  }
  return text + fmt::format(" -d '{}'\n", Quoted(row.help));
}

std::string FishScript() {
  std::string text =
      "# fish completion of tidegate; made by: tidegate completion fish\n"
      "complete -c tidegate -f\n";
  for (const OptionRow& row : GlobalOptions()) {
    text += FishOption("", row);
  }
  for (const CommandRow& command : Commands()) {
    text += fmt::format("complete -c tidegate -n __fish_use_subcommand -a {} -d '{}'\n",
                        command.name, Quoted(command.summary));
    std::string condition = fmt::format(" -n '__fish_seen_subcommand_from {}'", command.name);
    for (const OptionRow& row : command.options) {
      text += FishOption(condition, row);
    }
    for (const ArgumentRow& argument : command.arguments) {
      if (argument.kind == ValueKind::kChoice) {
        text +=
            fmt::format("complete -c tidegate{} -a '{}'\n", condition, Joined(argument.choices));
      } else if (argument.kind == ValueKind::kFile) {
        text += fmt::format("complete -c tidegate{} -F\n", condition);
      }
    }
  }
  return text;
}

struct Shell {
  std::string_view name;
  std::string (*script)();
};
constexpr std::array kShellScripts = {Shell{"bash", BashScript}, Shell{"zsh", ZshScript},
                                      Shell{"fish", FishScript}};

}  // namespace

std::string CompletionScript(std::string_view shell) {
  for (const Shell& row : kShellScripts) {
    if (row.name == shell) {
      return row.script();
    }
  }
  return {};
}

}  // namespace tidegate
