#include "common/config_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/file_text.h"

namespace tidegate {
namespace {

// A chain of certificates has a few KiB.
constexpr std::size_t kMaxBytes = 1U << 20U;
// All that a system trusts: some hundred KiB.
constexpr std::size_t kMaxSystemRootsBytes = 4U << 20U;

// Where distributions keep what they trust, in one file: Debian, Alpine and Arch; Fedora; SUSE; old
// Red Hat.
constexpr std::array<std::string_view, 4> kSystemRoots = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/certs/ca-bundle.crt"};

// A value of the configuration: null if it was not given, and what diagnostics call it.
struct Value {
  const JsonNode* node = nullptr;
  std::string path;
};

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
    const std::string path = ItemPath("certificates", index);
    ReadPair(config_.certificates[index],
             {.node = item.Find("cert"), .path = MemberPath(path, "cert")},
             {.node = item.Find("key"), .path = MemberPath(path, "key")});
  }

  void ReadUpstream(UpstreamConfig& upstream, const JsonNode& tls, const std::string& path) {
    ReadCertificates({.node = tls.Find("ca"), .path = MemberPath(path, "ca")},
                     upstream.tls->ca_file, upstream.tls->ca_pem);
    ReadPair(upstream.tls->client,
             {.node = tls.Find("client_cert"), .path = MemberPath(path, "client_cert")},
             {.node = tls.Find("client_key"), .path = MemberPath(path, "client_key")});
  }

  // For the upstream whose "tls" is at `needed_by`.
  void ReadSystemRoots(const Environment& environment, const Value& needed_by) {
    std::vector<std::string> places;
    if (auto chosen = environment ? environment("SSL_CERT_FILE") : std::nullopt;
        chosen && !chosen->empty()) {
      places.push_back(*chosen);
    } else {
      places.assign(kSystemRoots.begin(), kSystemRoots.end());
    }
    std::string faults;
    for (const std::string& place : places) {
      Result<FileText> text = ReadFile(place, kMaxSystemRootsBytes, FileKind::kRegular);
      auto blocks = text ? PemBlocks(text->text, "CERTIFICATE")
                         : Result<std::string>(std::unexpected(text.error()));
      if (blocks && !blocks->empty()) {
        config_.system_roots = {.file = place, .pem = std::move(*blocks)};
        return;
      }
      faults += fmt::format("{}{}: {}", faults.empty() ? "" : ", ", place,
                            blocks ? "has no certificate in PEM" : blocks.error().detail());
    }
    diagnostics_.AddError(
        needed_by.node->place, needed_by.path,
        fmt::format("nobody to trust: there are no certificates of the system ({})", faults),
        "name a \"ca\", or install ca-certificates");
  }

 private:
  void ReadPair(CertificateConfig& pair, const Value& certificate, const Value& key) {
    ReadCertificates(certificate, pair.certificate_file, pair.chain_pem);
    const Value file{.node = key.node == nullptr ? nullptr : key.node->Find("file"),
                     .path = MemberPath(key.path, "file")};
    if (auto text = Read(file, pair.key_file)) {
      TakeKey(*text, file, pair.key_pem);
    }
  }

  // All certificates of `file`, which stands at `value`.
  void ReadCertificates(const Value& value, std::string& file, std::string& pem) {
    auto text = Read(value, file);
    if (!text) {
      return;
    }
    auto blocks = PemBlocks(text->text, "CERTIFICATE");
    if (!blocks) {
      Fault(value, blocks.error().detail());
    } else if (blocks->empty()) {
      Fault(value, "has no certificate in PEM");
    } else {
      pem = std::move(*blocks);
    }
  }

  void TakeKey(const FileText& text, const Value& value, std::string& pem) {
    auto blocks = PemBlocks(text.text, "PRIVATE KEY");
    if (!blocks) {
      Fault(value, blocks.error().detail());
      return;
    }
    pem = std::move(*blocks);
    if (pem.empty()) {
      Fault(value, "has no private key in PEM");
    } else if (pem.contains("ENCRYPTED")) {
      Fault(value, "needs a pass phrase, and nobody is there to give it",
            "write the key without one: openssl pkey -in KEY -out KEY.new");
    } else if ((text.mode & S_IROTH) != 0) {
      diagnostics_.AddWarning(value.node->place, value.path,
                              fmt::format("everybody can read {}", value.node->text), "chmod o-r");
    }
  }

  // Makes `file` absolute and reads it; nothing if it was not given as it must be.
  std::optional<FileText> Read(const Value& value, std::string& file) {
    if (value.node == nullptr || file.empty()) {
      return std::nullopt;
    }
    const std::filesystem::path folder =
        std::filesystem::path(diagnostics_.NameOf(value.node->place.file)).parent_path();
    std::error_code ignored;
    file = std::filesystem::absolute(folder / file, ignored).lexically_normal().string();
    Result<FileText> text = ReadFile(file, kMaxBytes, FileKind::kRegular);
    if (!text) {
      Fault(value, text.error().detail());
      return std::nullopt;
    }
    return std::move(*text);
  }

  void Fault(const Value& value, std::string_view what, std::string suggestion = {}) {
    diagnostics_.AddError(value.node->place, value.path,
                          fmt::format("{}: {}", value.node->text, what), std::move(suggestion));
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

void ReadNamedFiles(const JsonNode& root, const Environment& environment, Config& config,
                    Diagnostics& diagnostics) {
  FileReader reader(config, diagnostics);
  if (const JsonNode* list = root.Find("certificates")) {
    for (std::size_t i = 0; i < std::min(list->items.size(), config.certificates.size()); ++i) {
      reader.ReadCertificate(i, list->items[i]);
    }
  }
  const JsonNode* upstreams = root.Find("upstreams");
  const std::size_t named = upstreams == nullptr ? 0 : upstreams->members.size();
  Value roots_needed_by;
  // One of the short form, which has no TLS, comes after those that are named.
  for (std::size_t i = 0; i < std::min(named, config.upstreams.size()); ++i) {
    const JsonMember& member = upstreams->members[i];
    const JsonNode* tls = member.value.Find("tls");
    if (tls == nullptr || !config.upstreams[i].tls) {
      continue;
    }
    const std::string path = MemberPath(MemberPath("upstreams", member.key), "tls");
    reader.ReadUpstream(config.upstreams[i], *tls, path);
    // A "ca" at fault is not there either, and is the fault.
    bool needs_roots = config.upstreams[i].tls->NeedsSystemRoots() && tls->Find("ca") == nullptr;
    if (needs_roots && roots_needed_by.node == nullptr) {
      roots_needed_by = {.node = tls, .path = path};
    }
  }
  if (roots_needed_by.node != nullptr) {
    reader.ReadSystemRoots(environment, roots_needed_by);
  }
}

}  // namespace tidegate
