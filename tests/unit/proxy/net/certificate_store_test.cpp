#include "proxy/net/certificate_store.h"

#include <ctime>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/test_certificates.h"

namespace tidegate {
namespace {

std::shared_ptr<const CertificateStore> StoreOf(const std::vector<CertificateMaterial>& materials) {
  auto store = CertificateStore::Make(materials);
  EXPECT_TRUE(store.has_value()) << store.error().ToString();
  return *store;
}

// The files of what is found, in order.
std::string Found(const CertificateStore& store, std::string_view name) {
  std::string files;
  for (const Certificate* each : store.Find(name)) {
    files += (files.empty() ? "" : " ") + each->name;
  }
  return files;
}

TEST(CertificateStore, FindsTheExactNameThenTheWildcardThenTheFirst) {
  auto store = StoreOf({TestMaterial({.hosts = {"one.example"}}, {}, "one"),
                        TestMaterial({.hosts = {"*.two.example"}}, {}, "any"),
                        TestMaterial({.hosts = {"www.two.example"}}, {}, "www")});
  EXPECT_EQ(Found(*store, "www.two.example"), "www");
  EXPECT_EQ(Found(*store, "WWW.two.EXAMPLE."), "www");
  EXPECT_EQ(Found(*store, "other.two.example"), "any");
  for (const char* other : {"", ".", "..", "two.example", "a.b.two.example", ".two.example",
                            "three.example", "*.two.example.org"}) {
    EXPECT_EQ(Found(*store, other), "one") << other;
  }
  EXPECT_EQ(Found(*store, std::string(254, 'a')), "one");
  EXPECT_EQ(Found(*store, std::string("www.two.example\0", 16)), "one");
}

TEST(CertificateStore, OffersOneCertificateOfEachKeyTypeForAName) {
  auto store = StoreOf({TestMaterial({.key = "P-256"}, {}, "ecdsa"),
                        TestMaterial({.key = "RSA-2048"}, {}, "rsa"),
                        TestMaterial({.key = "P-384"}, {}, "second ecdsa"),
                        TestMaterial({.key = "Ed25519"}, {}, "ed25519")});
  EXPECT_EQ(Found(*store, "example.org"), "ecdsa rsa ed25519");
  EXPECT_EQ(Found(*store, "unknown.example"), "ecdsa rsa ed25519") << "as the first one's name";
}

TEST(CertificateStore, ServesTheHostsThatAreGivenInsteadOfTheCertificates) {
  auto store =
      StoreOf({TestMaterial({.hosts = {"one.example"}}, {}, "first"),
               TestMaterial({.hosts = {"a.example", "b.example"}}, {"b.example"}, "second")});
  EXPECT_EQ(Found(*store, "b.example"), "second");
  EXPECT_EQ(Found(*store, "a.example"), "first");
}

TEST(CertificateStore, TellsEveryFaultOfEveryFileAtOnce) {
  std::vector<CertificateMaterial> materials = {
      TestMaterial({.key = "RSA-1024"}, {}, "one.pem"), TestMaterial({}, {}, "two.pem"),
      TestMaterial({.with_alternative_names = false}, {}, "three.pem")};
  materials[1].key_pem = "nothing";
  auto store = CertificateStore::Make(materials);
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().kind(), ErrorKind::kConfig);
  std::string text = store.error().ToString();
  EXPECT_TRUE(text.starts_with("one.pem: its RSA key has 1024 bits")) << text;
  EXPECT_NE(text.find("\ntwo.pem: its key cannot be read"), std::string::npos) << text;
  EXPECT_NE(text.find("\nthree.pem: it names no host"), std::string::npos) << text;
  EXPECT_FALSE(CertificateStore::Make({}).has_value());
}

TEST(CertificateStore, WarnsOfEveryCertificate) {
  auto store = StoreOf({TestMaterial({.hosts = {"a.example"}, .ends_in = 3600}, {}, "a.pem"),
                        TestMaterial({.hosts = {"b.example"}}, {}, "b.pem"),
                        TestMaterial({.hosts = {"c.example"}, .ends_in = -60}, {}, "c.pem")});
  std::vector<std::string> warnings = store->Warnings(std::time(nullptr));
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_TRUE(warnings[0].starts_with("a.pem: the certificate a.example expires on "));
  EXPECT_TRUE(warnings[1].starts_with("c.pem: the certificate c.example expired on "));
}

TEST(CertificateStore, WarnsOfACertificateThatIsNeverServedForAName) {
  auto store = StoreOf({TestMaterial({.hosts = {"a.example", "b.example", "c.example"}}, {}, "one"),
                        TestMaterial({.hosts = {"b.example", "c.example"}}, {}, "two"),
                        TestMaterial({.hosts = {"a.example"}, .key = "RSA-2048"}, {}, "three")});
  EXPECT_EQ(
      store->Warnings(std::time(nullptr)),
      std::vector<std::string>{"two: it is never served for b.example, c.example: one is, and "
                               "has the same kind of key"});
}

TEST(CertificateStore, TakesOverWhatIsTheSame) {
  std::vector<CertificateMaterial> materials = {
      TestMaterial({.hosts = {"a.example"}}, {}, "a"),
      TestMaterial({.hosts = {"b.example", "c.example"}}, {}, "b")};
  auto first = StoreOf(materials);
  auto same = CertificateStore::Make(materials, first);
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(*same, first);

  materials[1] = TestMaterial({.hosts = {"b.example"}}, {}, "b");
  auto other = CertificateStore::Make(materials, first);
  ASSERT_TRUE(other.has_value());
  ASSERT_NE(*other, first);
  EXPECT_EQ((*other)->Find("a.example").front(), first->Find("a.example").front());
  EXPECT_NE((*other)->Find("b.example").front(), first->Find("b.example").front());
  EXPECT_EQ(Found(**other, "c.example"), "a");

  std::swap(materials[0], materials[1]);
  auto swapped = CertificateStore::Make(materials, *other);
  ASSERT_TRUE(swapped.has_value());
  EXPECT_EQ(Found(**swapped, "unknown.example"), "b") << "the first is another one now";
  materials[0].hosts = {"b.example"};
  auto narrowed = CertificateStore::Make(materials, *swapped);
  ASSERT_TRUE(narrowed.has_value());
  EXPECT_NE((*narrowed)->Find("b.example").front(), (*swapped)->Find("b.example").front())
      << "the hosts are part of it";
}

TEST(CertificateStore, OfAThousandCertificatesIsMadeAndAskedQuickly) {
  std::vector<CertificateMaterial> materials;
  for (int i = 0; i < 1000; ++i) {
    materials.push_back(TestMaterial({.hosts = {"host" + std::to_string(i) + ".example"}}));
  }
  std::clock_t begin = std::clock();
  auto store = StoreOf(materials);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(store->Find("host" + std::to_string(i) + ".example").size(), 1U);
  }
  EXPECT_LT(std::clock() - begin, 10 * CLOCKS_PER_SEC);
}

TEST(CertificateMaterial, MayBeCopiedAndIsWipedAlone) {
  CertificateMaterial one = TestMaterial({});
  std::string key = one.key_pem;
  {
    CertificateMaterial copy = one;
    copy.name = "copy.pem";
    EXPECT_EQ(copy.key_pem, key);
  }
  EXPECT_EQ(one.key_pem, key);
}

}  // namespace
}  // namespace tidegate
