#include "common/config_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "common/file_text.h"

namespace tidegate {
namespace {

// A chain of certificates has a few KiB.
constexpr std::size_t kMaxBytes = 1U << 20U;

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char octet) {
    return (octet >= ' ' && octet <= '~') || octet == '\n' || octet == '\r' || octet == '\t';
  });
}

class FileReader {
 public:
  FileReader(Config& config, Diagnostics& diagnostics)
      : config_(config), diagnostics_(diagnostics) {}

  void ReadCertificate(std::size_t index, const JsonNode& item) {
    CertificateConfig& certificate = config_.certificates[index];
    const std::string path = ItemPath("certificates", index);
    const JsonNode* cert = item.Find("cert");
    if (auto text = Read(cert, MemberPath(path, "cert"), certificate.certificate_file)) {
      auto blocks = PemBlocks(text->text, "CERTIFICATE");
      if (!blocks) {
        Fault(*cert, MemberPath(path, "cert"), blocks.error().detail());
      } else if (blocks->empty()) {
        Fault(*cert, MemberPath(path, "cert"), "has no certificate in PEM");
      } else {
        certificate.chain_pem = std::move(*blocks);
      }
    }
    const JsonNode* key = item.Find("key");
    const JsonNode* file = key == nullptr ? nullptr : key->Find("file");
    const std::string key_path = MemberPath(MemberPath(path, "key"), "file");
    if (auto text = Read(file, key_path, certificate.key_file)) {
      TakeKey(*text, *file, key_path, certificate);
    }
  }

 private:
  void TakeKey(const FileText& text, const JsonNode& node, const std::string& path,
               CertificateConfig& certificate) {
    auto blocks = PemBlocks(text.text, "PRIVATE KEY");
    if (!blocks) {
      Fault(node, path, blocks.error().detail());
      return;
    }
    certificate.key_pem = std::move(*blocks);
    if (certificate.key_pem.empty()) {
      Fault(node, path, "has no private key in PEM");
    } else if (certificate.key_pem.contains("ENCRYPTED")) {
      Fault(node, path, "needs a pass phrase, and nobody is there to give it",
            "write the key without one: openssl pkey -in KEY -out KEY.new");
    } else if ((text.mode & S_IROTH) != 0) {
      diagnostics_.AddWarning(node.place, path, fmt::format("everybody can read {}", node.text),
                              "chmod o-r");
    }
  }

  // Makes `file` absolute and reads it; nothing if it was not given as it must be.
  std::optional<FileText> Read(const JsonNode* node, const std::string& path, std::string& file) {
    if (node == nullptr || file.empty()) {
      return std::nullopt;
    }
    const std::filesystem::path folder =
        std::filesystem::path(diagnostics_.NameOf(node->place.file)).parent_path();
    std::error_code ignored;
    file = std::filesystem::absolute(folder / file, ignored).lexically_normal().string();
    Result<FileText> text = ReadFile(file, kMaxBytes, FileKind::kRegular);
    if (!text) {
      Fault(*node, path, text.error().detail());
      return std::nullopt;
    }
    return std::move(*text);
  }

  void Fault(const JsonNode& node, const std::string& path, std::string_view what,
             std::string suggestion = {}) {
    diagnostics_.AddError(node.place, path, fmt::format("{}: {}", node.text, what),
                          std::move(suggestion));
  }

  Config& config_;
  Diagnostics& diagnostics_;
};

}  // namespace

Result<std::string> PemBlocks(std::string_view text, std::string_view label) {
  constexpr std::string_view kBegin = "-----BEGIN ";
  constexpr std::string_view kDashes = "-----";
  std::string blocks;
  while (true) {
    const std::size_t begin = text.find(kBegin);
    if (begin == std::string_view::npos) {
      return blocks;
    }
    text.remove_prefix(begin);
    const std::size_t label_end = text.find(kDashes, kBegin.size());
    if (label_end == std::string_view::npos) {
      return Fail(ErrorKind::kConfig, "is cut short: a block of PEM has no end");
    }
    const std::string_view found = text.substr(kBegin.size(), label_end - kBegin.size());
    const std::string end_line = fmt::format("-----END {}-----", found);
    const std::size_t end = text.find(end_line);
    if (end == std::string_view::npos) {
      return Fail(ErrorKind::kConfig, "is cut short: a block of PEM has no end");
    }
    const std::string_view block = text.substr(0, end + end_line.size());
    if (found.ends_with(label)) {
      if (!IsAscii(block)) {
        return Fail(ErrorKind::kConfig, "is damaged: a block of PEM has octets that are no text");
      }
      blocks += block;
      blocks += '\n';
    }
    text.remove_prefix(block.size());
  }
}

void ReadNamedFiles(const JsonNode& root, Config& config, Diagnostics& diagnostics) {
  const JsonNode* list = root.Find("certificates");
  if (list == nullptr) {
    return;
  }
  FileReader reader(config, diagnostics);
  for (std::size_t i = 0; i < std::min(list->items.size(), config.certificates.size()); ++i) {
    reader.ReadCertificate(i, list->items[i]);
  }
}

}  // namespace tidegate
