#include "supervisor/arguments.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <limits>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "common/text.h"
#include "common/units.h"
#include "supervisor/help.h"

namespace tidegate {
namespace {

using Words = std::vector<std::string>;

Refusal UsageError(const CommandRow* command, std::string_view message) {
  std::string hint =
      command == nullptr ? "tidegate --help" : fmt::format("tidegate {} --help", command->name);
  return Refusal{ExitCode::kUsage, fmt::format("tidegate: {}\nTry \"{}\".\n", message, hint)};
}

// `, did you mean "x"?`, or nothing. A beginning counts too: "comp" is meant to be "completion".
std::string Suggestion(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::optional<std::string_view> nearest = Nearest(word, candidates);
  if (!nearest && word.size() >= 3) {
    auto longer = std::ranges::find_if(
        candidates, [&](std::string_view candidate) { return candidate.starts_with(word); });
    if (longer != candidates.end()) {
      nearest = *longer;
    }
  }
  return nearest ? fmt::format("; did you mean \"{}\"?", *nearest) : std::string();
}

// Empty if `text` is what the kind asks for; otherwise what is wrong with it.
std::string FaultOf(ValueKind kind, std::span<const std::string_view> choices, CountRange range,
                    const std::string& text) {
  if (kind == ValueKind::kFlag) {
    return {};
  }
  if (text.empty()) {
    return "must not be empty";
  }
  if (kind == ValueKind::kDuration) {
    auto duration = ParseDuration(text);
    return duration ? std::string() : duration.error().ToString();
  }
  if (kind == ValueKind::kCount) {
    std::uint64_t value = 0;
    auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (fault == std::errc::result_out_of_range) {
      value = std::numeric_limits<std::uint64_t>::max();
    } else if (fault != std::errc() || end != text.data() + text.size()) {
      return fmt::format("\"{}\" is not a whole number", text);
    }
    return value < range.least || value > range.most
               ? fmt::format("must be {} to {}", range.least, range.most)
               : std::string();
  }
  if (kind == ValueKind::kChoice && std::ranges::find(choices, text) == choices.end()) {
    return fmt::format("\"{}\" is not {}{}", text, QuotedChoice(choices),
                       Suggestion(text, {choices.begin(), choices.end()}));
  }
  return {};
}

void AddOptions(CLI::App& app, std::span<const OptionRow> rows,
                std::map<std::string_view, Words>& into) {
  for (const OptionRow& row : rows) {
    std::string names = fmt::format("--{}", row.name);
    if (row.letter != 0) {
      names = fmt::format("-{},{}", row.letter, names);
    }
    std::string_view key = row.name;
    if (row.kind == ValueKind::kFlag) {
      app.add_flag_callback(names, [&into, key] { into[key] = {}; })
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      continue;
    }
    // All of them: more than one where one counts is refused later.
    app.add_option_function<Words>(names, [&into, key](const Words& values) { into[key] = values; })
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
  }
}

// What CLI11 made of the words; nothing is judged yet.
struct Parsed {
  const CommandRow* command = nullptr;
  std::map<std::string_view, Words> options;
  Words arguments;
  // Words that no row explains.
  Words extras;
  // What stands after "--": arguments, even if they look like options.
  Words literal;
  // What CLI11 refused, e.g. an option without its value.
  std::string fault;
};

Parsed Parse(std::span<const char* const> arguments) {
  Parsed parsed;
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  // What follows a command is never another: `cert check`, a file called "status".
  app.require_subcommand(0, 1);
  AddOptions(app, GlobalOptions(), parsed.options);
  for (const CommandRow& row : Commands()) {
    CLI::App* sub = app.add_subcommand(std::string(row.name));
    sub->set_help_flag();
    sub->fallthrough();
    sub->allow_extras();
    AddOptions(*sub, row.options, parsed.options);
    sub->callback([&parsed, &row] { parsed.command = &row; });
  }
  auto end = std::ranges::find(arguments, std::string_view("--"),
                               [](const char* word) { return std::string_view(word); });
  if (end != arguments.end()) {
    parsed.literal.assign(end + 1, arguments.end());
  }
  // CLI11 takes its words from the back.
  Words words(arguments.begin(), end);
  std::ranges::reverse(words);
  try {
    app.parse(std::move(words));
  } catch (const CLI::ArgumentMismatch& error) {
    std::string_view what = error.what();
    parsed.fault = fmt::format("{} needs a value", what.substr(0, what.find(':')));
  } catch (const CLI::ParseError& error) {
    parsed.fault = error.what();
  }
  // A callback does not run when something else was refused.
  if (!app.get_subcommands().empty()) {
    parsed.command = FindCommand(app.get_subcommands().front()->get_name());
  }
  parsed.extras = app.remaining(true);
  return parsed;
}

// Extras that do not look like options are the command's arguments, as many as it takes.
void TakeArguments(Parsed& parsed) {
  std::erase_if(parsed.extras, [&](const std::string& word) {
    bool is_option = word.size() > 1 && word.front() == '-';
    if (is_option || parsed.arguments.size() == parsed.command->arguments.size()) {
      return false;
    }
    parsed.arguments.push_back(word);
    return true;
  });
  parsed.arguments.insert(parsed.arguments.end(), parsed.literal.begin(), parsed.literal.end());
}

std::optional<Refusal> RefuseExtras(const Parsed& parsed) {
  if (parsed.command != nullptr && parsed.arguments.size() > parsed.command->arguments.size()) {
    return UsageError(parsed.command,
                      fmt::format("\"{}\" is one argument too many", parsed.arguments.back()));
  }
  if (parsed.extras.empty()) {
    return std::nullopt;
  }
  if (parsed.command == nullptr) {
    auto word = std::ranges::find_if(
        parsed.extras, [](const std::string& extra) { return !extra.starts_with('-'); });
    if (word != parsed.extras.end()) {
      std::vector<std::string_view> names;
      for (const CommandRow& row : Commands()) {
        names.push_back(row.name);
      }
      return UsageError(nullptr,
                        fmt::format("unknown command \"{}\"{}", *word, Suggestion(*word, names)));
    }
  }
  const std::string& word = parsed.extras.front();
  if (!word.starts_with('-')) {
    return UsageError(parsed.command, fmt::format("\"{}\" is one argument too many", word));
  }
  std::vector<std::string> known;
  for (const OptionRow& row : GlobalOptions()) {
    known.push_back(fmt::format("--{}", row.name));
  }
  if (parsed.command != nullptr) {
    for (const OptionRow& row : parsed.command->options) {
      known.push_back(fmt::format("--{}", row.name));
    }
  }
  std::string name = word.substr(0, word.find('='));
  return UsageError(parsed.command, fmt::format("unknown option {}{}", name,
                                                Suggestion(name, {known.begin(), known.end()})));
}

std::optional<Refusal> RefuseValues(const Parsed& parsed) {
  auto check = [&](std::span<const OptionRow> rows) -> std::optional<Refusal> {
    for (const OptionRow& row : rows) {
      auto found = parsed.options.find(row.name);
      if (found == parsed.options.end()) {
        if (row.required) {
          return UsageError(parsed.command,
                            fmt::format("--{} {} is missing", row.name, row.metavar));
        }
        continue;
      }
      if (!row.repeatable && found->second.size() > 1) {
        return UsageError(parsed.command, fmt::format("--{} is given {} times and takes one value",
                                                      row.name, found->second.size()));
      }
      for (const std::string& value : found->second) {
        std::string fault = FaultOf(row.kind, row.choices, row.range, value);
        if (!fault.empty()) {
          return UsageError(parsed.command, fmt::format("--{}: {}", row.name, fault));
        }
      }
    }
    return std::nullopt;
  };
  std::optional<Refusal> refusal = check(GlobalOptions());
  if (!refusal) {
    refusal = check(parsed.command->options);
  }
  for (std::size_t i = 0; !refusal && i < parsed.command->arguments.size(); ++i) {
    const ArgumentRow& row = parsed.command->arguments[i];
    if (i >= parsed.arguments.size()) {
      if (row.required) {
        refusal =
            UsageError(parsed.command, fmt::format("{} is missing: {}", row.metavar, row.help));
      }
      continue;
    }
    std::string fault = FaultOf(row.kind, row.choices, {}, parsed.arguments[i]);
    if (!fault.empty()) {
      refusal = UsageError(parsed.command, fmt::format("{}: {}", row.metavar, fault));
    }
  }
  return refusal;
}

std::optional<Refusal> RefuseContradictions(const Parsed& parsed) {
  for (const OptionRow& row : parsed.command->options) {
    for (std::string_view other : row.not_with) {
      if (parsed.options.contains(row.name) && parsed.options.contains(other)) {
        return UsageError(parsed.command,
                          fmt::format("--{} and --{} contradict each other", row.name, other));
      }
    }
  }
  return std::nullopt;
}

// A configuration that nobody would read is a mistake of whoever names it.
std::optional<Refusal> RefuseConfig(const Parsed& parsed) {
  if (!parsed.options.contains("config")) {
    return std::nullopt;
  }
  const CommandRow& command = *parsed.command;
  if (!command.reads_config) {
    bool asks_daemon =
        command.group == CommandGroup::kChange || command.group == CommandGroup::kLook;
    return UsageError(
        &command,
        asks_daemon ? fmt::format("--config: {} asks the daemon, which reads the file that it was "
                                  "started with; \"tidegate status\" names it",
                                  command.name)
                    : fmt::format("--config: {} reads no configuration", command.name));
  }
  if (!parsed.arguments.empty() && command.arguments.front().kind == ValueKind::kFile) {
    return UsageError(&command,
                      fmt::format("two configurations are named: --config {} and {}",
                                  parsed.options.at("config").front(), parsed.arguments.front()));
  }
  return std::nullopt;
}

// `tidegate help upgrade` is what many type first.
bool IsHelpWord(std::span<const char* const> arguments) {
  return !arguments.empty() && std::string_view(arguments[0]) == "help" && arguments.size() <= 2;
}

std::expected<Invocation, Refusal> Judge(Parsed parsed) {
  if (parsed.options.contains("help")) {
    return std::unexpected(Refusal{
        ExitCode::kDone, parsed.command == nullptr ? GeneralHelp() : CommandHelp(*parsed.command)});
  }
  if (parsed.options.contains("version")) {
    parsed.command = FindCommand("version");
    parsed.extras.clear();
    parsed.options.erase("version");
    parsed.options.erase("config");
  }
  if (parsed.command != nullptr) {
    TakeArguments(parsed);
  }
  if (auto refusal = RefuseExtras(parsed)) {
    return std::unexpected(std::move(*refusal));
  }
  if (!parsed.fault.empty()) {
    return std::unexpected(UsageError(parsed.command, parsed.fault));
  }
  if (parsed.command == nullptr) {
    return std::unexpected(UsageError(nullptr, "a command is missing"));
  }
  if (auto refusal = RefuseValues(parsed)) {
    return std::unexpected(std::move(*refusal));
  }
  if (auto refusal = RefuseContradictions(parsed)) {
    return std::unexpected(std::move(*refusal));
  }
  if (auto refusal = RefuseConfig(parsed)) {
    return std::unexpected(std::move(*refusal));
  }

  Invocation invocation;
  invocation.command = parsed.command;
  invocation.options = std::move(parsed.options);
  invocation.arguments = std::move(parsed.arguments);
  invocation.json = invocation.Has("json");
  invocation.quiet = invocation.Has("quiet");
  invocation.verbose = invocation.Has("verbose");
  std::string color = invocation.Get("color");
  invocation.color = color == "always"  ? ColorMode::kAlways
                     : color == "never" ? ColorMode::kNever
                                        : ColorMode::kAuto;
  return invocation;
}

}  // namespace

std::expected<Invocation, Refusal> ParseArguments(std::span<const char* const> arguments) {
  try {
    if (IsHelpWord(arguments)) {
      const CommandRow* command = arguments.size() == 2 ? FindCommand(arguments[1]) : nullptr;
      return std::unexpected(
          Refusal{ExitCode::kDone, command == nullptr ? GeneralHelp() : CommandHelp(*command)});
    }
    return Judge(Parse(arguments));
  } catch (const std::exception& error) {
    return std::unexpected(UsageError(nullptr, error.what()));
  }
}

}  // namespace tidegate
