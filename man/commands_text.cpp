#include "man/commands_text.h"

#include <fmt/format.h>

#include "common/counters.h"
#include "common/text.h"
#include "man/page.h"
#include "supervisor/commands.h"

namespace tidegate {
namespace {

std::string OptionText(const OptionRow& option) {
  std::string text = fmt::format("*--{}*", option.name);
  return option.metavar.empty() ? text : fmt::format("{} _{}_", text, Escaped(option.metavar));
}

std::string Bracketed(const std::string& text, bool required) {
  return required ? " " + text : fmt::format(" [{}]", text);
}

// `tidegate conns [--kill ID]`.
std::string UsageText(const CommandRow& command) {
  std::string text = fmt::format("*tidegate {}*", command.name);
  for (const ArgumentRow& argument : command.arguments) {
    text += Bracketed(fmt::format("_{}_", argument.metavar), argument.required);
  }
  for (const OptionRow& option : command.options) {
    text += Bracketed(OptionText(option) + (option.repeatable ? "..." : ""), option.required);
  }
  return text;
}

// True for "bash: source ...": such a line is a paragraph of its own.
bool IsLabelled(std::string_view line) {
  std::size_t label = 0;
  while (label < line.size() && IsAlpha(line[label])) {
    ++label;
  }
  return label > 0 && line.substr(label).starts_with(": ");
}

void AppendDetails(std::string& text, std::string_view details) {
  while (!details.empty()) {
    std::size_t end = std::min(details.find('\n'), details.size());
    std::string_view line = details.substr(0, end);
    details.remove_prefix(std::min(end + 1, details.size()));
    text += IsLabelled(line) ? "\n\n\t" : "\n\t";
    text += Escaped(line);
  }
}

// Words to choose from stand at the beginning, and stay as they are.
std::string HelpText(std::string_view help, bool is_choice) {
  std::string sentence = Sentence(help);
  if (is_choice) {
    sentence.front() = help.front();
  }
  return Escaped(sentence);
}

}  // namespace

std::optional<std::string> CommandText(std::string_view name) {
  const CommandRow* command = FindCommand(name);
  if (command == nullptr) {
    return std::nullopt;
  }
  std::string text =
      fmt::format("{}\n\t{}", UsageText(*command), Escaped(Sentence(command->summary)));
  AppendDetails(text, command->details);
  text += "\n\n";
  for (const ArgumentRow& argument : command->arguments) {
    text += fmt::format("\t_{}_\n\t\t{}\n\n", argument.metavar,
                        HelpText(argument.help, !argument.choices.empty()));
  }
  for (const OptionRow& option : command->options) {
    text += fmt::format("\t{}\n\t\t{}\n\n", OptionText(option), HelpText(option.help, false));
    if (!option.choices.empty()) {
      text += fmt::format("\t\tOne of {}.\n\n", fmt::join(option.choices, ", "));
    }
  }
  if (!command->example.empty()) {
    text += fmt::format("\tExample: *tidegate {}*\n\n", Escaped(command->example));
  }
  return text;
}

std::string CountersText() {
  std::string text;
  for (std::size_t i = 0; i < static_cast<std::size_t>(CounterId::kFirstError); ++i) {
    const CounterRow& row = RowOf(static_cast<CounterId>(i));
    text += fmt::format("*{}*\n\t{}\n\n", Escaped(row.name), Escaped(Sentence(row.help)));
  }
  return text;
}

}  // namespace tidegate
