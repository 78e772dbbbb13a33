#include "common/config_source.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/file_text.h"
#include "common/text.h"

namespace tidegate {
namespace {

// More is no configuration but a mistake, e.g. a log file.
constexpr std::size_t kMaxFileBytes = 16U << 20U;
constexpr std::size_t kMaxFiles = 1000;

bool IsMergedList(std::string_view key) {
  return key == "routes" || key == "listeners" || key == "certificates";
}

std::string FolderOf(const std::string& name) {
  std::size_t slash = name.rfind('/');
  return slash == std::string::npos ? "" : name.substr(0, slash + 1);
}

bool IsPattern(std::string_view text) {
  return text.find_first_of("*?[") != std::string_view::npos;
}

// The files that a pattern names, sorted by their octets, so that the order does not depend on a
// locale. Only `pattern` may have wild characters; those in `folder` are part of its name.
std::vector<std::string> Matches(std::string_view folder, std::string_view pattern) {
  std::string whole;
  for (char c : folder) {
    whole += IsPattern({&c, 1}) || c == '\\' ? std::string{'\\', c} : std::string{c};
  }
  whole += pattern;
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(whole.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  ::globfree(&found);
  std::ranges::sort(paths);
  return paths;
}

bool IsUtf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = Utf8SequenceLength(text, i);
    if (length == 0) {
      return false;
    }
    i += length;
  }
  return true;
}

class SourceReader {
 public:
  SourceReader(const Environment& environment, Diagnostics& diagnostics)
      : environment_(environment), diagnostics_(diagnostics) {}

  // Parses the text and merges it, and what it includes, into the tree.
  void Take(const std::string& name, std::string text) {
    std::uint32_t file = diagnostics_.AddFile(name, std::move(text));
    JsonDocument document = ReadJson(diagnostics_.TextOf(file), file);
    for (const JsonFault& fault : document.faults) {
      diagnostics_.AddError(fault.place, fault.path, fault.message, fault.suggestion);
    }
    if (!document.root) {
      broken_ = true;
      return;
    }
    JsonNode root = std::move(*document.root);
    if (root.kind != JsonNode::Kind::kObject) {
      diagnostics_.AddError(
          root.place, "",
          fmt::format("a configuration is an object, not {}", tidegate::NameOf(root.kind)),
          "write { ... }");
      broken_ = true;
      return;
    }
    std::vector<JsonNode> patterns = TakeIncludes(root);
    if (tree_) {
      Merge(*tree_, std::move(root), "");
    } else {
      tree_ = std::move(root);
    }
    for (const JsonNode& pattern : patterns) {
      Include(pattern, FolderOf(name));
    }
  }

  void TakeFile(const std::string& path) {
    auto file = ReadFile(path, kMaxFileBytes);
    if (!file) {
      diagnostics_.AddError(
          path, fmt::format("cannot read the configuration: {}", file.error().detail()));
      broken_ = true;
      return;
    }
    open_.push_back({file->identity, path});
    seen_[file->identity] = path;
    Take(path, std::move(file->text));
    open_.pop_back();
  }

  std::optional<JsonNode> Finish() {
    if (broken_ || !tree_) {
      return std::nullopt;
    }
    Expand(*tree_, "");
    return std::move(tree_);
  }

 private:
  struct OpenFile {
    std::pair<dev_t, ino_t> identity;
    std::string name;
  };

  // Removes `include` from the file and returns its patterns, variables put in.
  std::vector<JsonNode> TakeIncludes(JsonNode& root) {
    auto member = std::ranges::find(root.members, "include", &JsonMember::key);
    if (member == root.members.end()) {
      return {};
    }
    JsonNode include = std::move(member->value);
    root.members.erase(member);
    Expand(include, "include");
    if (include.kind != JsonNode::Kind::kArray) {
      diagnostics_.AddError(
          include.place, "include",
          fmt::format("expected an array of file patterns, not {}", tidegate::NameOf(include.kind)),
          "write [\"conf.d/*.json\"]");
      return {};
    }
    std::vector<JsonNode> patterns;
    for (std::size_t i = 0; i < include.items.size(); ++i) {
      JsonNode& item = include.items[i];
      if (item.kind != JsonNode::Kind::kString || item.text.empty() ||
          item.text.find('\0') != std::string::npos) {
        diagnostics_.AddError(item.place, ItemPath("include", i),
                              "expected a file or a pattern such as \"conf.d/*.json\"");
      } else {
        patterns.push_back(std::move(item));
      }
    }
    return patterns;
  }

  void Include(const JsonNode& pattern, const std::string& folder) {
    std::string from = pattern.text.starts_with('/') ? "" : folder;
    // A pattern may match nothing (an empty conf.d); a name must exist.
    std::vector<std::string> paths = IsPattern(pattern.text)
                                         ? Matches(from, pattern.text)
                                         : std::vector<std::string>{from + pattern.text};
    for (const std::string& path : paths) {
      IncludeFile(pattern, path);
    }
  }

  void IncludeFile(const JsonNode& pattern, const std::string& path) {
    auto file = ReadFile(path, kMaxFileBytes);
    if (!file) {
      diagnostics_.AddError(pattern.place, "include",
                            fmt::format("cannot read {}: {}", path, file.error().detail()));
      broken_ = true;
      return;
    }
    auto running = std::ranges::find(open_, file->identity, &OpenFile::identity);
    if (running != open_.end()) {
      diagnostics_.AddError(pattern.place, "include",
                            running + 1 == open_.end()
                                ? fmt::format("{} includes itself", path)
                                : fmt::format("{} is included by a file that it includes", path));
      return;
    }
    if (seen_.contains(file->identity)) {
      diagnostics_.AddError(pattern.place, "include", fmt::format("{} is included twice", path),
                            "remove one of them");
      return;
    }
    if (seen_.size() >= kMaxFiles) {
      diagnostics_.AddError(pattern.place, "include", fmt::format("more than {} files", kMaxFiles));
      broken_ = true;
      return;
    }
    seen_[file->identity] = path;
    open_.push_back({file->identity, path});
    Take(path, std::move(file->text));
    open_.pop_back();
  }

  void Merge(JsonNode& into, JsonNode from, const std::string& path) {
    for (JsonMember& member : from.members) {
      auto known = std::ranges::find(into.members, member.key, &JsonMember::key);
      if (known == into.members.end()) {
        into.members.push_back(std::move(member));
        continue;
      }
      JsonNode& first = known->value;
      std::string member_path = MemberPath(path, member.key);
      bool list = path.empty() && IsMergedList(member.key);
      if (first.kind == JsonNode::Kind::kObject && member.value.kind == JsonNode::Kind::kObject) {
        Merge(first, std::move(member.value), member_path);
      } else if (list && first.kind == JsonNode::Kind::kArray &&
                 member.value.kind == JsonNode::Kind::kArray) {
        std::ranges::move(member.value.items, std::back_inserter(first.items));
      } else {
        diagnostics_.AddError(
            member.key_place, member_path,
            fmt::format("already given at {}", diagnostics_.LineReference(known->key_place)),
            "remove one of them");
      }
    }
  }

  // Puts variables into every string below `node`.
  void Expand(JsonNode& node, const std::string& path) {
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      Expand(node.items[i], ItemPath(path, i));
    }
    for (JsonMember& member : node.members) {
      Expand(member.value, MemberPath(path, member.key));
    }
    if (node.kind != JsonNode::Kind::kString || node.text.find("${") == std::string::npos) {
      return;
    }
    auto expanded = ExpandVariables(node.text, environment_);
    if (!expanded) {
      diagnostics_.AddError(node.place, path, expanded.error());
      // So that what comes later does not complain about the same value again.
      node.unset = true;
      return;
    }
    node.expanded = true;
    node.text = std::move(*expanded);
  }

  const Environment& environment_;
  Diagnostics& diagnostics_;
  std::optional<JsonNode> tree_;
  std::vector<OpenFile> open_;
  std::map<std::pair<dev_t, ino_t>, std::string> seen_;
  bool broken_ = false;
};

bool IsVariableName(std::string_view name) {
  auto part = [](char c) { return IsAlnum(c) || c == '_'; };
  return !name.empty() && !IsDigit(name.front()) && std::ranges::all_of(name, part);
}

}  // namespace

std::optional<JsonNode> ReadConfigFiles(const std::string& path, const Environment& environment,
                                        Diagnostics& diagnostics) {
  SourceReader reader(environment, diagnostics);
  reader.TakeFile(path);
  return reader.Finish();
}

std::optional<JsonNode> ReadConfigText(const std::string& name, std::string_view text,
                                       const Environment& environment, Diagnostics& diagnostics) {
  SourceReader reader(environment, diagnostics);
  reader.Take(name, std::string(text));
  return reader.Finish();
}

Result<std::string> ExpandVariables(std::string_view text, const Environment& environment) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i, 3) == "$${") {
      result += "${";
      i += 3;
      continue;
    }
    if (text.substr(i, 2) != "${") {
      result += text[i++];
      continue;
    }
    std::size_t close = text.find('}', i);
    if (close == std::string_view::npos) {
      return Fail(ErrorKind::kConfig,
                  "\"${\" without \"}\"; write \"$${\" for the characters themselves");
    }
    std::string_view inside = text.substr(i + 2, close - i - 2);
    std::size_t mark = inside.find(":-");
    std::string_view name = inside.substr(0, mark);
    if (!IsVariableName(name)) {
      return Fail(
          ErrorKind::kConfig,
          fmt::format("\"{}\" is not the name of a variable; write ${{NAME}} or ${{NAME:-default}}",
                      name));
    }
    std::optional<std::string> value = environment ? environment(name) : std::nullopt;
    if (mark != std::string_view::npos && (!value || value->empty())) {
      value = inside.substr(mark + 2);
    }
    if (!value) {
      return Fail(
          ErrorKind::kConfig,
          fmt::format("the variable {} is not set; set it, or write ${{{}:-default}}", name, name));
    }
    if (!IsUtf8(*value)) {
      return Fail(ErrorKind::kConfig,
                  fmt::format("the value of the variable {} is not UTF-8", name));
    }
    result += *value;
    i = close + 1;
  }
  return result;
}

void UnescapeTree(JsonNode& node) {
  for (JsonNode& item : node.items) {
    UnescapeTree(item);
  }
  for (JsonMember& member : node.members) {
    UnescapeTree(member.value);
  }
  for (std::size_t at = node.text.find("$${"); at != std::string::npos;
       at = node.text.find("$${", at + 2)) {
    node.text.erase(at, 1);
  }
}

std::string EscapeVariables(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "${") {
      result += '$';
    }
    result += text[i];
  }
  return result;
}

Environment ProcessEnvironment() {
  return [](std::string_view name) -> std::optional<std::string> {
    const char* value = std::getenv(std::string(name).c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
}

}  // namespace tidegate
