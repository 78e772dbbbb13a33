#include "supervisor/help.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

namespace tidegate {
namespace {

struct Entry {
  std::string left;
  std::string_view right;
};

void AppendEntries(std::string& text, const std::vector<Entry>& entries) {
  std::size_t width = 0;
  for (const Entry& entry : entries) {
    width = std::max(width, entry.left.size());
  }
  for (const Entry& entry : entries) {
    text += fmt::format("  {:<{}}  {}\n", entry.left, width, entry.right);
  }
}

std::string OptionText(const OptionRow& option) {
  std::string text = option.letter != 0 ? fmt::format("-{}, ", option.letter) : "    ";
  text += fmt::format("--{}", option.name);
  if (!option.metavar.empty()) {
    text += fmt::format(" {}", option.metavar);
  }
  return text;
}

void AppendOptions(std::string& text, std::string_view title, std::span<const OptionRow> options) {
  if (options.empty()) {
    return;
  }
  std::vector<Entry> entries;
  for (const OptionRow& option : options) {
    entries.push_back({OptionText(option), option.help});
  }
  text += fmt::format("\n{}:\n", title);
  AppendEntries(text, entries);
}

// A line that a terminal would break is broken before one of its options.
std::string Wrapped(std::string line, std::size_t indent) {
  constexpr std::size_t kColumns = 80;
  std::size_t start = 0;
  while (line.size() - start > kColumns) {
    std::size_t at = line.rfind(" [", start + kColumns);
    if (at == std::string::npos || at <= start + indent) {
      break;
    }
    line.replace(at, 1, "\n" + std::string(indent, ' '));
    start = at + 1;
  }
  return line;
}

}  // namespace

std::string UsageLine(const CommandRow& command) {
  std::string text = fmt::format("tidegate {}", command.name);
  for (const ArgumentRow& argument : command.arguments) {
    text += argument.required ? fmt::format(" {}", argument.metavar)
                              : fmt::format(" [{}]", argument.metavar);
  }
  for (const OptionRow& option : command.options) {
    std::string one = fmt::format("--{}", option.name);
    if (!option.metavar.empty()) {
      one += fmt::format(" {}", option.metavar);
    }
    if (option.repeatable) {
      one += "...";
    }
    text += option.required ? fmt::format(" {}", one) : fmt::format(" [{}]", one);
  }
  return text;
}

std::string GeneralHelp() {
  std::string text =
      "tidegate: a reverse proxy that reloads and upgrades without losing a request\n"
      "\n"
      "Usage: tidegate COMMAND [OPTIONS]\n";
  for (CommandGroup group :
       {CommandGroup::kServe, CommandGroup::kChange, CommandGroup::kLook, CommandGroup::kOffline}) {
    std::vector<Entry> entries;
    for (const CommandRow& command : Commands()) {
      if (command.group == group) {
        // One width for all groups, so that the summaries line up.
        entries.push_back({fmt::format("{:<10}", command.name), command.summary});
      }
    }
    text += fmt::format("\n{}:\n", TitleOf(group));
    AppendEntries(text, entries);
  }
  AppendOptions(text, "Options of every command", GlobalOptions());
  text += "\n\"tidegate COMMAND --help\" says more about one of them.\n";
  return text;
}

std::string CommandHelp(const CommandRow& command) {
  std::string usage = Wrapped(fmt::format("Usage: {}", UsageLine(command)),
                              fmt::format("Usage: tidegate {} ", command.name).size());
  std::string text = fmt::format("tidegate {}: {}\n\n{}\n", command.name, command.summary, usage);
  if (!command.details.empty()) {
    text += fmt::format("\n{}\n", command.details);
  }
  if (!command.arguments.empty()) {
    std::vector<Entry> entries;
    for (const ArgumentRow& argument : command.arguments) {
      entries.push_back({std::string(argument.metavar), argument.help});
    }
    text += "\nArguments:\n";
    AppendEntries(text, entries);
  }
  AppendOptions(text, "Options", command.options);
  AppendOptions(text, "Options of every command", GlobalOptionsOf(command));
  if (!command.example.empty()) {
    text += fmt::format("\nExample:\n  tidegate {}\n", command.example);
  }
  return text;
}

}  // namespace tidegate
