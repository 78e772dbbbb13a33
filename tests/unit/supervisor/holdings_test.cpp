#include "supervisor/holdings.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "common/config_load.h"
#include "common/control.h"

namespace tidegate {
namespace {

Config Loaded() {
  auto loaded =
      LoadConfigText("test.json", R"({"listen": "127.0.0.1:0", "upstream": "127.0.0.1:3000"})", {});
  EXPECT_TRUE(loaded.has_value());
  return loaded->config;
}

TEST(ActiveConfig, OfAnotherImageKeepsItsTextOctetForOctet) {
  // What we write all keys into, an older image writes less into.
  std::string theirs = EffectiveJson(Loaded());
  std::size_t at = theirs.find("\"max_headers\"");
  ASSERT_NE(at, std::string::npos);
  std::size_t begin = theirs.rfind('\n', at);
  theirs.erase(begin, theirs.find('\n', at) - begin);
  theirs += "\n ";

  auto active = ActivateText(theirs);
  ASSERT_TRUE(active.has_value()) << active.error().ToString();
  EXPECT_EQ((*active)->effective, theirs);
  EXPECT_EQ(*ReadMemfd((*active)->memfd.get()), theirs) << "workers get it, too";
  EXPECT_EQ((*active)->config.limits.max_headers, Loaded().limits.max_headers);
}

TEST(ActiveConfig, OfAnotherImageWasReadWhenThatSays) {
  const std::string text = EffectiveJson(Loaded());
  EXPECT_DOUBLE_EQ((*ActivateText(text, 1234.5))->loaded, 1234.5);
  EXPECT_GT((*ActivateText(text))->loaded, 1234.5);
}

TEST(ActiveConfig, OfAnotherImageMustBeUnderstood) {
  auto active = ActivateText(R"({"listeners": [], "of_later": 1})");
  ASSERT_FALSE(active.has_value());
  EXPECT_EQ(active.error().kind(), ErrorKind::kConfig);
}

TEST(ActiveConfig, HasNoSettingOfALaterVersionAtItsDefault) {
  // An older image refuses the key.
  Config config = Loaded();
  EXPECT_EQ(EffectiveJson(config).find("tls_handshake"), std::string::npos);
  config.timeouts.tls_handshake = std::chrono::seconds(4);
  EXPECT_NE(EffectiveJson(config).find("\"tls_handshake\": \"4s\""), std::string::npos);
}

TEST(Holdings, AWorkerIsKnownByItsProgramAlsoIfNobodyStartedIt) {
  Loop loop;
  {
    Holdings holdings(loop, [](ClientId, const std::string&, const nlohmann::json&) {});
    EXPECT_FALSE(holdings.IsWorker(::getpid())) << "no program is known";
    holdings.worker_program = *OpenProgram("/bin/sh");
    EXPECT_FALSE(holdings.IsWorker(::getpid()));
    holdings.previous.emplace().worker_program = *OpenOwnProgram();
    EXPECT_TRUE(holdings.IsWorker(::getpid()));
    std::swap(holdings.worker_program, holdings.previous->worker_program);
    EXPECT_TRUE(holdings.IsWorker(::getpid()));
    holdings.worker_program = *OpenProgram("/bin/sh");
    Generation::Parts parts{.worker_program = *OpenOwnProgram(), .identity = {}};
    holdings.generations.push_back(
        std::make_unique<Generation>(holdings.surroundings, std::move(parts)));
    EXPECT_TRUE(holdings.IsWorker(::getpid()));
    EXPECT_FALSE(holdings.IsWorker(::getppid()));
    holdings.former_workers = {::getppid()};
    EXPECT_TRUE(holdings.IsWorker(::getppid()));
  }
  loop.RunUntilClosed();
}

}  // namespace
}  // namespace tidegate
