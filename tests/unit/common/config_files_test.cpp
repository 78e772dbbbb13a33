#include "common/config_files.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "common/config_load.h"

namespace tidegate {
namespace {

constexpr std::string_view kCert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
constexpr std::string_view kKey = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n";

TEST(PemBlocks, AreTakenByTheirLabel) {
  const std::string text = std::string("a comment \xc3\xa4\n") + std::string(kCert) +
                           std::string(kKey) + "more\n" + std::string(kCert);
  EXPECT_EQ(*PemBlocks(text, "CERTIFICATE"), std::string(kCert) + std::string(kCert));
  EXPECT_EQ(*PemBlocks(text, "PRIVATE KEY"), kKey);
  EXPECT_EQ(*PemBlocks("-----BEGIN EC PARAMETERS-----\nx\n-----END EC PARAMETERS-----\n"
                       "-----BEGIN EC PRIVATE KEY-----\ny\n-----END EC PRIVATE KEY-----\n",
                       "PRIVATE KEY"),
            "-----BEGIN EC PRIVATE KEY-----\ny\n-----END EC PRIVATE KEY-----\n");
}

TEST(PemBlocks, ThatAreBrokenAreFaults) {
  EXPECT_EQ(*PemBlocks("", "CERTIFICATE"), "");
  for (const std::string& text :
       {std::string("-----BEGIN "), std::string("-----BEGIN CERTIFICATE-----\nAAAA\n"),
        std::string(kCert) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTI",
        std::string("-----BEGIN CERTIFICATE-----\nA\xff\n-----END CERTIFICATE-----\n")}) {
    EXPECT_FALSE(PemBlocks(text, "CERTIFICATE").has_value()) << text;
  }
  // Of no interest here, as long as it has an end.
  EXPECT_EQ(
      *PemBlocks("-----BEGIN X-----\n\xff-----END X-----\n" + std::string(kCert), "CERTIFICATE"),
      kCert);
}

class ConfigFilesTest : public ::testing::Test {
 protected:
  ConfigFilesTest() {
    char pattern[] = "/tmp/tidegate-files-XXXXXX";
    folder = mkdtemp(pattern);
    Write("site.pem", kCert);
    Write("site.key", kKey);
  }
  ~ConfigFilesTest() override { std::filesystem::remove_all(folder); }

  void Write(const std::string& name, std::string_view text, mode_t mode = 0600) const {
    std::ofstream(folder + "/" + name) << text;
    EXPECT_EQ(chmod((folder + "/" + name).c_str(), mode), 0);
  }
  // `certificates` and what else the file says, with one TLS listener.
  auto Load(const std::string& certificates, const std::string& tls = "{}") const {
    return LoadConfigText(folder + "/tidegate.json",
                          R"({"listeners": [{"bind": ":443", "tls": )" + tls +
                              R"(}], "upstream": "127.0.0.1:1", "certificates": )" + certificates +
                              "}",
                          {});
  }
  // The messages of all faults and warnings.
  template <class Loaded>
  static std::string MessagesOf(const Loaded& loaded) {
    std::string all;
    for (const Diagnostic& each : loaded ? loaded->warnings : loaded.error()) {
      all += each.path + ": " + each.message + "\n";
    }
    return all;
  }

  std::string folder;
};

TEST_F(ConfigFilesTest, AreReadRelativeToTheFileThatNamesThem) {
  auto loaded = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  const CertificateConfig& certificate = loaded->config.certificates.at(0);
  EXPECT_EQ(certificate.certificate_file, folder + "/site.pem");
  EXPECT_EQ(certificate.key_file, folder + "/site.key");
  EXPECT_EQ(certificate.chain_pem, kCert);
  EXPECT_EQ(certificate.key_pem, kKey);
  EXPECT_TRUE(loaded->warnings.empty());
}

TEST_F(ConfigFilesTest, GoWithTheConfigurationAndAreShownToNobody) {
  auto loaded = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  auto again = ParseEffectiveConfig(loaded->effective);
  ASSERT_TRUE(again.has_value()) << again.error().ToString();
  EXPECT_EQ(*again, loaded->config);
  EXPECT_EQ(PrintEffective(*loaded).find("BBBB"), std::string::npos);
  EXPECT_EQ(ShownJson(loaded->config).find("BBBB"), std::string::npos);
  EXPECT_NE(loaded->effective.find("BBBB"), std::string::npos);
}

TEST_F(ConfigFilesTest, ThatHaveChangedAreAChange) {
  auto before = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  Write("site.pem", std::string(kCert) + std::string(kCert));
  auto after = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(before && after);
  EXPECT_EQ(
      DiffConfig(before->config, after->config),
      std::vector<std::string>{"certificates: " + folder + "/site.pem has another certificate"});
}

TEST_F(ConfigFilesTest, AreNamedWhereTheyCannotBeUsed) {
  EXPECT_EQ(MessagesOf(Load(R"([{"cert": "none.pem", "key": {"file": "site.pem"}}])")),
            "certificates[0].cert: none.pem: No such file or directory\n"
            "certificates[0].key.file: site.pem: has no private key in PEM\n");
  Write("locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----\n");
  EXPECT_EQ(
      MessagesOf(Load(R"([{"cert": "site.key", "key": {"file": "locked.key"}}])")),
      "certificates[0].cert: site.key: has no certificate in PEM\n"
      "certificates[0].key.file: locked.key: needs a pass phrase, and nobody is there to give "
      "it\n");
}

TEST_F(ConfigFilesTest, ThatEverybodyCanReadAreAWarning) {
  Write("site.key", kKey, 0644);
  auto loaded = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(MessagesOf(loaded), "certificates[0].key.file: everybody can read site.key\n");
}

TEST_F(ConfigFilesTest, MustBeThereForTls) {
  EXPECT_EQ(MessagesOf(Load("[]")), "listeners[0].tls: TLS without a certificate\n");
  EXPECT_EQ(
      MessagesOf(Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}, "key_pem": "x"}])")),
      "certificates[0]: unknown key \"key_pem\"\n");
}

TEST_F(ConfigFilesTest, GivenTwiceAreAFault) {
  const std::string one = R"({"cert": "site.pem", "key": {"file": "site.key"}})";
  EXPECT_NE(MessagesOf(Load("[" + one + "," + one + "]")).find("is taken"), std::string::npos);
}

TEST_F(ConfigFilesTest, MayBeOcspResponsesAndAuthoritiesToo) {
  Write("site.ocsp", std::string("\x30\x03\x0a\x01\x00", 5));
  Write("ca.pem", kCert);
  const std::string certificates =
      R"([{"cert": "site.pem", "key": {"file": "site.key"}, "ocsp": "site.ocsp"}])";
  auto loaded = Load(certificates, R"({"client_ca": "ca.pem"})");
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  EXPECT_EQ(loaded->config.certificates[0].ocsp_file, folder + "/site.ocsp");
  EXPECT_EQ(loaded->config.certificates[0].ocsp_base64, "MAMKAQA=");
  EXPECT_EQ(loaded->config.listeners[0].tls->client_ca_pem, kCert);
  EXPECT_EQ(*ParseEffectiveConfig(loaded->effective), loaded->config);
  EXPECT_EQ(PrintEffective(*loaded).find("AAAA"), std::string::npos);
  EXPECT_EQ(PrintEffective(*loaded).find("MAMKAQA="), std::string::npos);
  EXPECT_EQ(NamedFilesOf(loaded->config),
            (std::vector<std::string>{folder + "/ca.pem", folder + "/site.pem",
                                      folder + "/site.key", folder + "/site.ocsp"}));
  Write("site.ocsp", "\x30");
  Write("ca.pem", std::string(kCert) + std::string(kCert));
  auto after = Load(certificates, R"({"client_ca": "ca.pem"})");
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ(DiffConfig(loaded->config, after->config),
            (std::vector<std::string>{
                "certificates: " + folder + "/site.ocsp has another OCSP response",
                "listeners[\":443\"]: " + folder + "/ca.pem has other certificates"}));
  Write("site.ocsp", "{}");
  EXPECT_EQ(MessagesOf(Load(certificates)),
            "certificates[0].ocsp: site.ocsp: is no OCSP response in DER\n");
}

// An older program, which we may go back to, refuses a key that it does not know.
TEST_F(ConfigFilesTest, GoWithNoKeyThatNobodyHasUsed) {
  auto loaded = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(loaded.has_value());
  for (const char* key : {"watch", "hsts", "client_", "ocsp", "redirect_to_https", "hand_over"}) {
    EXPECT_EQ(loaded->effective.find(key), std::string::npos) << key;
  }
}

TEST_F(ConfigFilesTest, AboveAFolderThatIsALinkAreThoseWhereItLeadsTo) {
  std::filesystem::create_directories(folder + "/releases/1/config");
  std::filesystem::create_directories(folder + "/releases/1/certs");
  std::filesystem::create_directories(folder + "/certs");
  std::filesystem::create_directory_symlink("releases/1/config", folder + "/config");
  Write("releases/1/certs/site.pem", kCert);
  Write("releases/1/certs/site.key", kKey);
  Write("certs/site.pem", "of somebody else");
  Write("certs/site.key", "of somebody else");
  Write("config/tidegate.json", R"({"listeners": [{"bind": ":443", "tls": {}}],
      "certificates": [{"cert": "../certs/site.pem", "key": {"file": "./../certs/./site.key"}}],
      "upstream": "127.0.0.1:3000"})");
  auto loaded = LoadConfig(folder + "/config/tidegate.json", {});
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  EXPECT_EQ(loaded->config.certificates[0].chain_pem, kCert);
  EXPECT_EQ(NamedFilesOf(loaded->config),
            (std::vector<std::string>{folder + "/config/../certs/site.pem",
                                      folder + "/config/../certs/site.key"}));
}

TEST_F(ConfigFilesTest, AtFaultAreNamedOnceEach) {
  Write("other.pem", std::string(kCert) + std::string(kCert));
  auto loaded = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}},
                         {"cert": "other.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  Write("site.key", "half");
  auto broken = RereadNamedFiles(loaded->config);
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().detail(), folder + "/site.key: has no private key in PEM");
}

TEST_F(ConfigFilesTest, AreReadAgainWithoutTheFileThatNamesThem) {
  auto loaded = Load(R"([{"cert": "site.pem", "key": {"file": "site.key"}}])");
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(*RereadNamedFiles(loaded->config), loaded->config);
  Write("site.pem", std::string(kCert) + std::string(kCert));
  auto fresh = RereadNamedFiles(loaded->config);
  ASSERT_TRUE(fresh.has_value());
  EXPECT_EQ(fresh->certificates[0].chain_pem, std::string(kCert) + std::string(kCert));
  EXPECT_EQ(fresh->certificates[0].key_pem, kKey);
  Write("site.pem", "half");
  std::filesystem::remove(folder + "/site.key");
  auto broken = RereadNamedFiles(loaded->config);
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().detail(), folder + "/site.pem: has no certificate in PEM\n" + folder +
                                         "/site.key: No such file or directory");
}

// Of upstreams.

class UpstreamFilesTest : public ConfigFilesTest {
 protected:
  UpstreamFilesTest() {
    Write("ca.pem", std::string("comment\n") + std::string(kCert) + std::string(kCert));
    Write("system.pem", kCert);
  }
  auto Load(const std::string& tls, const std::string& more = "") const {
    return LoadConfigText(folder + "/tidegate.json",
                          R"({"listen": ":80", "routes": [{"upstream": "a"}], "upstreams": {"a": {
                             "endpoints": ["a.example:443"], "tls": )" +
                              tls + "}" + more + "}}",
                          [&](std::string_view name) {
                            return name == "SSL_CERT_FILE"
                                       ? std::optional<std::string>(folder + "/system.pem")
                                       : std::nullopt;
                          });
  }
};

TEST_F(UpstreamFilesTest, AreReadAndShownToNobody) {
  auto loaded =
      Load(R"({"ca": "ca.pem", "client_cert": "site.pem", "client_key": {"file": "site.key"}})");
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  const UpstreamTlsConfig& tls = *loaded->config.upstreams.at(0).tls;
  EXPECT_EQ(tls.ca_file, folder + "/ca.pem");
  EXPECT_EQ(tls.ca_pem, std::string(kCert) + std::string(kCert));
  EXPECT_EQ(tls.client.certificate_file, folder + "/site.pem");
  EXPECT_EQ(tls.client.chain_pem, kCert);
  EXPECT_EQ(tls.client.key_file, folder + "/site.key");
  EXPECT_EQ(tls.client.key_pem, kKey);
  EXPECT_EQ(loaded->config.system_roots, SystemRoots{}) << "nobody needs them";
  auto again = ParseEffectiveConfig(loaded->effective);
  ASSERT_TRUE(again.has_value()) << again.error().ToString();
  EXPECT_EQ(*again, loaded->config);
  for (const std::string& shown : {PrintEffective(*loaded), ShownJson(loaded->config)}) {
    EXPECT_EQ(shown.find("BBBB"), std::string::npos);
    EXPECT_EQ(shown.find("AAAA"), std::string::npos);
    EXPECT_NE(shown.find("ca.pem"), std::string::npos);
    EXPECT_NE(shown.find("site.key"), std::string::npos);
  }
}

TEST_F(UpstreamFilesTest, TheSystemsAreReadOnceWhereTheyAreNeeded) {
  auto loaded = Load("{}", R"(, "b": {"endpoints": ["b.example:443"], "tls": {}})");
  ASSERT_TRUE(loaded.has_value()) << MessagesOf(loaded);
  EXPECT_EQ(loaded->config.system_roots.file, folder + "/system.pem");
  EXPECT_EQ(loaded->config.system_roots.pem, kCert);
  std::size_t first = loaded->effective.find("AAAA");
  EXPECT_EQ(loaded->effective.find("AAAA", first + 1), std::string::npos);
  auto again = ParseEffectiveConfig(loaded->effective);
  ASSERT_TRUE(again.has_value()) << again.error().ToString();
  EXPECT_EQ(*again, loaded->config);
  EXPECT_EQ(PrintEffective(*loaded).find("AAAA"), std::string::npos);
  EXPECT_EQ(Load(R"({"verify": false})")->config.system_roots, SystemRoots{});
}

TEST_F(UpstreamFilesTest, OfTheSystemMustBeThere) {
  std::filesystem::remove(folder + "/system.pem");
  EXPECT_EQ(MessagesOf(Load("{}")),
            "upstreams.a.tls: nobody to trust: there are no certificates of the system (" + folder +
                "/system.pem: No such file or directory)\n");
  Write("system.pem", "nothing");
  EXPECT_EQ(MessagesOf(Load("{}")),
            "upstreams.a.tls: nobody to trust: there are no certificates of the system (" + folder +
                "/system.pem: has no certificate in PEM)\n");
  EXPECT_TRUE(Load(R"({"verify": false})").has_value());
  // One fault at a time: a "ca" that is wrong is no call for the system's.
  EXPECT_EQ(MessagesOf(Load(R"({"ca": "none.pem"})")),
            "upstreams.a.tls.ca: none.pem: No such file or directory\n");
}

TEST_F(UpstreamFilesTest, AreNamedWhereTheyCannotBeUsed) {
  EXPECT_EQ(
      MessagesOf(Load(
          R"({"ca": "site.key", "client_cert": "site.key", "client_key": {"file": "ca.pem"}})")),
      "upstreams.a.tls.ca: site.key: has no certificate in PEM\n"
      "upstreams.a.tls.client_cert: site.key: has no certificate in PEM\n"
      "upstreams.a.tls.client_key.file: ca.pem: has no private key in PEM\n");
  EXPECT_EQ(MessagesOf(Load(R"({"client_cert": "site.pem"})")),
            "upstreams.a.tls.client_cert: a certificate without its key\n");
  EXPECT_EQ(MessagesOf(Load(R"({"client_key": {"file": "site.key"}})")),
            "upstreams.a.tls.client_key: a key without its certificate\n");
  Write("site.key", kKey, 0644);
  EXPECT_EQ(MessagesOf(Load(R"({"client_cert": "site.pem", "client_key": {"file": "site.key"}})")),
            "upstreams.a.tls.client_key.file: everybody can read site.key\n");
  EXPECT_EQ(MessagesOf(Load(R"({"verify": false, "ca": "ca.pem"})")),
            "upstreams.a.tls.ca: nothing is verified, so nobody asks whom this trusts\n");
}

TEST_F(UpstreamFilesTest, ThatHaveChangedAreAChange) {
  const std::string all =
      R"({"ca": "ca.pem", "client_cert": "site.pem", "client_key": {"file": "site.key"}})";
  const std::string other = R"(, "b": {"endpoints": ["b.example:443"], "tls": {}})";
  auto before = Load(all, other);
  Write("ca.pem", kCert);
  Write("site.pem", std::string(kCert) + std::string(kCert));
  Write("site.key", "-----BEGIN PRIVATE KEY-----\nCCCC\n-----END PRIVATE KEY-----\n");
  Write("system.pem", std::string(kCert) + std::string(kCert));
  auto after = Load(all, other);
  ASSERT_TRUE(before && after);
  const std::string what = "upstreams[\"a\"].tls: " + folder;
  EXPECT_EQ(DiffConfig(before->config, after->config),
            (std::vector<std::string>{
                what + "/site.pem has another certificate", what + "/site.key has another key",
                what + "/ca.pem has other certificates",
                "the system trusts others: " + folder + "/system.pem has changed"}));
  auto named = Load(R"({"ca": "ca.pem"})", other);
  ASSERT_TRUE(named.has_value());
  EXPECT_EQ(DiffConfig(named->config, after->config).size(), 2U);
}

}  // namespace
}  // namespace tidegate
