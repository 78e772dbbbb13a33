#pragma once

// Collects the faults of a configuration while it is read, and knows the files that they are in.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config_load.h"
#include "common/error.h"
#include "common/json_reader.h"

namespace tidegate {

class Diagnostics {
 public:
  // Keeps the text; returns what Place::file calls it.
  std::uint32_t AddFile(std::string name, std::string text);
  std::string_view TextOf(std::uint32_t file) const { return files_[file].text; }
  const std::string& NameOf(std::uint32_t file) const { return files_[file].name; }

  void AddError(const Place& place, std::string path, std::string message,
                std::string suggestion = {});
  void AddWarning(const Place& place, std::string path, std::string message,
                  std::string suggestion = {});
  // Details of our own errors say "what is wrong; what to write": the second half becomes the
  // suggestion.
  void AddError(const Place& place, std::string path, const Error& error);
  // A fault without a place, e.g. a file that cannot be read.
  void AddError(std::string file, std::string message);

  std::size_t error_count() const { return error_count_; }
  // "file:line".
  std::string LineReference(const Place& place) const;
  // Everything, in the order of files and places.
  std::vector<Diagnostic> Take();

 private:
  struct File {
    std::string name;
    std::string text;
    std::vector<std::uint32_t> line_starts;
  };
  struct Entry {
    std::uint32_t file = 0;
    std::uint32_t offset = 0;
    // Of two faults in one place, the one found first comes first.
    std::size_t order = 0;
    Diagnostic diagnostic;
  };
  struct Line {
    unsigned number = 1;
    std::uint32_t start = 0;
  };

  Line LineAt(const File& file, std::uint32_t offset) const;
  void Add(Severity severity, const Place& place, std::string path, std::string message,
           std::string suggestion);

  std::vector<File> files_;
  std::vector<Entry> entries_;
  std::size_t error_count_ = 0;
};

}  // namespace tidegate
