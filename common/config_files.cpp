#include "common/config_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <expected>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/file_text.h"
#include "common/text.h"

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

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char octet) {
    return (octet >= ' ' && octet <= '~') || octet == '\n' || octet == '\r' || octet == '\t';
  });
}

// What a file says.
struct Contents {
  std::string text;
  // What is not good, but nothing to refuse it for; empty: nothing.
  std::string warning;
  std::string advice;
};

// Why a file is refused, and what to do.
struct Refusal {
  std::string what;
  std::string advice;
};

using ReadAs = std::expected<Contents, Refusal> (*)(const FileText& file);

std::expected<Contents, Refusal> Blocks(const FileText& file, std::string_view label,
                                        std::string_view none) {
  auto blocks = PemBlocks(file.text, label);
  if (!blocks) {
    return std::unexpected(Refusal{std::string(blocks.error().detail()), {}});
  }
  if (blocks->empty()) {
    return std::unexpected(Refusal{std::string(none), {}});
  }
  return Contents{.text = std::move(*blocks)};
}

std::expected<Contents, Refusal> ReadChain(const FileText& file) {
  return Blocks(file, "CERTIFICATE", "has no certificate in PEM");
}

std::expected<Contents, Refusal> ReadKey(const FileText& file) {
  auto key = Blocks(file, "PRIVATE KEY", "has no private key in PEM");
  if (key && key->text.contains("ENCRYPTED")) {
    return std::unexpected(Refusal{"needs a pass phrase, and nobody is there to give it",
                                   "write the key without one: openssl pkey -in KEY -out KEY.new"});
  }
  if (key && (file.mode & S_IROTH) != 0) {
    key->warning = "everybody can read ";
    key->advice = "chmod o-r";
  }
  return key;
}

std::expected<Contents, Refusal> ReadOcsp(const FileText& file) {
  // A DER SEQUENCE, which is all that can be said here.
  if (!file.text.starts_with('\x30')) {
    return std::unexpected(Refusal{file.text.empty() ? "is empty" : "is no OCSP response in DER",
                                   "write it with: openssl ocsp ... -respout FILE"});
  }
  return Contents{.text = ToBase64(file.text)};
}

// One file of a configuration.
struct NamedFile {
  // In `config`: its path, and where its contents go.
  std::string* path;
  std::string* contents;
  ReadAs read;
  // Where the path was given: null if it was not, or is not known any more.
  const JsonNode* node = nullptr;
  std::string key;
  std::size_t most_bytes = kMaxBytes;
};

NamedFile FileOf(SystemRoots& roots) {
  return {.path = &roots.file,
          .contents = &roots.pem,
          .read = &ReadChain,
          .most_bytes = kMaxSystemRootsBytes};
}

const JsonNode* Inside(const JsonNode* node, std::string_view key) {
  return node == nullptr ? nullptr : node->Find(key);
}

// The n-th item of a list; null if there is none.
const JsonNode* ItemOf(const JsonNode* list, std::size_t index) {
  return list != nullptr && index < list->items.size() ? &list->items[index] : nullptr;
}

// The n-th upstream; null if it has no name: one of the short form comes after those that have.
const JsonMember* UpstreamOf(const JsonNode* root, std::size_t index) {
  const JsonNode* named = Inside(root, "upstreams");
  return named != nullptr && index < named->members.size() ? &named->members[index] : nullptr;
}

std::string KeyOfUpstreamTls(const JsonMember& upstream) {
  return MemberPath(MemberPath("upstreams", upstream.key), "tls");
}

// ".." stays: above a folder that is a link is where the link leads to, as for every program that
// opens the file.
std::string AbsolutePath(const std::filesystem::path& path) {
  std::error_code ignored;
  std::filesystem::path absolute;
  for (const std::filesystem::path& step : std::filesystem::absolute(path, ignored)) {
    if (step != ".") {
      absolute /= step;
    }
  }
  return absolute.string();
}

// Every file that `config` may name. `root`, which it was read from, may be null.
std::vector<NamedFile> FilesOf(Config& config, const JsonNode* root) {
  std::vector<NamedFile> files;
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    if (std::optional<TlsConfig>& tls = config.listeners[i].tls) {
      const JsonNode* node = Inside(ItemOf(Inside(root, "listeners"), i), "tls");
      files.push_back({&tls->client_ca_file, &tls->client_ca_pem, &ReadChain,
                       Inside(node, "client_ca"),
                       MemberPath(MemberPath(ItemPath("listeners", i), "tls"), "client_ca")});
    }
  }
  for (std::size_t i = 0; i < config.certificates.size(); ++i) {
    CertificateConfig& certificate = config.certificates[i];
    const JsonNode* node = ItemOf(Inside(root, "certificates"), i);
    const std::string path = ItemPath("certificates", i);
    files.push_back({&certificate.certificate_file, &certificate.chain_pem, &ReadChain,
                     Inside(node, "cert"), MemberPath(path, "cert")});
    files.push_back({&certificate.key_file, &certificate.key_pem, &ReadKey,
                     Inside(Inside(node, "key"), "file"),
                     MemberPath(MemberPath(path, "key"), "file")});
    files.push_back({&certificate.ocsp_file, &certificate.ocsp_base64, &ReadOcsp,
                     Inside(node, "ocsp"), MemberPath(path, "ocsp")});
  }
  for (std::size_t i = 0; i < config.upstreams.size(); ++i) {
    if (std::optional<UpstreamTlsConfig>& tls = config.upstreams[i].tls) {
      const JsonMember* member = UpstreamOf(root, i);
      const JsonNode* node = member == nullptr ? nullptr : member->value.Find("tls");
      const std::string path = member == nullptr ? std::string() : KeyOfUpstreamTls(*member);
      CertificateConfig& client = tls->client;
      files.push_back(
          {&tls->ca_file, &tls->ca_pem, &ReadChain, Inside(node, "ca"), MemberPath(path, "ca")});
      files.push_back({&client.certificate_file, &client.chain_pem, &ReadChain,
                       Inside(node, "client_cert"), MemberPath(path, "client_cert")});
      files.push_back({&client.key_file, &client.key_pem, &ReadKey,
                       Inside(Inside(node, "client_key"), "file"),
                       MemberPath(MemberPath(path, "client_key"), "file")});
    }
  }
  files.push_back(FileOf(config.system_roots));
  std::erase_if(files, [](const NamedFile& file) { return file.path->empty(); });
  return files;
}

std::expected<Contents, Refusal> Read(const NamedFile& file) {
  Result<FileText> text = ReadFile(*file.path, file.most_bytes, FileKind::kRegular);
  if (!text) {
    return std::unexpected(Refusal{std::string(text.error().detail()), {}});
  }
  return file.read(*text);
}

// For the upstream whose "tls" is at `needed_by`, which verifies and names nobody to trust.
void ReadSystemRoots(const Environment& environment, const JsonNode& needed_by,
                     const std::string& key, Config& config, Diagnostics& diagnostics) {
  std::vector<std::string> places;
  if (auto chosen = environment ? environment("SSL_CERT_FILE") : std::nullopt;
      chosen && !chosen->empty()) {
    places.push_back(*chosen);
  } else {
    places.assign(kSystemRoots.begin(), kSystemRoots.end());
  }
  std::string faults;
  for (const std::string& place : places) {
    SystemRoots roots{.file = place};
    auto contents = Read(FileOf(roots));
    if (contents) {
      roots.pem = std::move(contents->text);
      config.system_roots = std::move(roots);
      return;
    }
    faults += fmt::format("{}{}: {}", faults.empty() ? "" : ", ", place, contents.error().what);
  }
  diagnostics.AddError(
      needed_by.place, key,
      fmt::format("nobody to trust: there are no certificates of the system ({})", faults),
      "name a \"ca\", or install ca-certificates");
}

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
  for (const NamedFile& file : FilesOf(config, &root)) {
    if (file.node == nullptr) {
      continue;
    }
    const std::filesystem::path folder =
        std::filesystem::path(diagnostics.NameOf(file.node->place.file)).parent_path();
    *file.path = AbsolutePath(folder / *file.path);
    auto contents = Read(file);
    if (!contents) {
      diagnostics.AddError(file.node->place, file.key,
                           fmt::format("{}: {}", file.node->text, contents.error().what),
                           std::move(contents.error().advice));
      continue;
    }
    *file.contents = std::move(contents->text);
    if (!contents->warning.empty()) {
      diagnostics.AddWarning(file.node->place, file.key, contents->warning + file.node->text,
                             std::move(contents->advice));
    }
  }
  for (std::size_t i = 0; i < config.upstreams.size(); ++i) {
    const JsonMember* member = UpstreamOf(&root, i);
    const JsonNode* tls = member == nullptr ? nullptr : member->value.Find("tls");
    // A "ca" at fault is not there either, and is the fault.
    if (tls != nullptr && config.upstreams[i].tls && config.upstreams[i].tls->NeedsSystemRoots() &&
        tls->Find("ca") == nullptr) {
      ReadSystemRoots(environment, *tls, KeyOfUpstreamTls(*member), config, diagnostics);
      return;
    }
  }
}

Result<Config> RereadNamedFiles(const Config& config) {
  Config fresh = config;
  std::vector<std::string> faults;
  std::set<std::string> faulty;
  for (const NamedFile& file : FilesOf(fresh, nullptr)) {
    auto contents = Read(file);
    if (contents) {
      *file.contents = std::move(contents->text);
    } else if (faulty.insert(*file.path).second) {
      faults.push_back(fmt::format("{}: {}", *file.path, contents.error().what));
    }
  }
  if (!faults.empty()) {
    return Fail(ErrorKind::kConfig, fmt::format("{}", fmt::join(faults, "\n")));
  }
  return fresh;
}

std::vector<std::string> NamedFilesOf(const Config& config) {
  std::vector<std::string> paths;
  std::set<std::string> known;
  // Only looked at; a copy would be one more of every key.
  for (const NamedFile& file : FilesOf(const_cast<Config&>(config), nullptr)) {
    if (known.insert(*file.path).second) {
      paths.push_back(*file.path);
    }
  }
  return paths;
}

}  // namespace tidegate
