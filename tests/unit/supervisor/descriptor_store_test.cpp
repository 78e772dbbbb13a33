#include "supervisor/descriptor_store.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include <gtest/gtest.h>

#include "common/control.h"
#include "supervisor/holdings.h"
#include "tests/unit/supervisor/fake_manager.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr const char* kSocket = "tidegate.store.socket.";
constexpr const char* kState = "tidegate.store.state.";
constexpr const char* kConfig = "tidegate.store.config.";

Config Listening(std::vector<std::string> names, const std::string& bind = "127.0.0.1:0") {
  Config config;
  for (const std::string& name : names) {
    config.listeners.push_back(ListenerConfig{.name = name, .bind = *ParseAddress(bind)});
  }
  return config;
}

// One supervisor's life, as far as the store is concerned.
struct Life {
  explicit Life(std::vector<GivenSocket> given = {}) {
    store.Take(given);
    left = std::move(given);
    store.Bring();
    EXPECT_TRUE(counters.Modernize());
  }
  // What a start or a reload does, but for the configuration (Use).
  void Serve(const Config& wanted, unsigned workers) {
    ASSERT_TRUE(listeners.Prepare(wanted, workers));
    ASSERT_TRUE(listeners.Listen());
    std::vector<std::uint64_t> dropped = listeners.Commit();
    store.Follow(dropped);
    listeners.Close(dropped);
  }
  void Use(const std::string& name) {
    Result<ActiveConfigPtr> made = Activate(Listening({name}));
    ASSERT_TRUE(made);
    config = *made;
    store.Follow();
  }

  Loop loop;
  Notify notify{loop};
  Listeners listeners;
  CountersOwner counters;
  KeyRing keys{1};
  std::uint64_t next_generation = 1;
  ActiveConfigPtr config;
  DescriptorStore store{loop, notify, {listeners, counters, keys, next_generation, config}};
  std::vector<GivenSocket> left;
};

class DescriptorStoreTest : public testing::Test {
 protected:
  // What the manager gives to the next one.
  std::vector<GivenSocket> Given() const {
    std::vector<GivenSocket> given;
    for (const auto& [name, fd] : manager_.store) {
      given.push_back(
          GivenSocket{.name = name, .fd = UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3))});
    }
    return given;
  }
  json State() const {
    Result<std::string> text;
    for (const auto& [name, fd] : manager_.store) {
      if (name.starts_with(kState)) {
        text = ReadMemfd(fd.get());
      }
    }
    return text ? json::parse(*text) : json();
  }
  void Replace(const std::string& start, const std::string& text) {
    for (auto& [name, fd] : manager_.store) {
      if (name.starts_with(start)) {
        Result<UniqueFd> memfd = MakeMemfd("test", text);
        ASSERT_TRUE(memfd);
        fd = std::move(*memfd);
      }
    }
  }

  FakeManager manager_;
};

TEST_F(DescriptorStoreTest, TheNextOneHasTheSameSocketsCountersKeysAndNumbers) {
  std::optional<Life> first(std::in_place);
  first->Serve(Listening({"web", "other"}), 2);
  first->next_generation = 7;
  first->counters.Add(CounterId::kReloadsOk, 3);
  first->store.Follow();
  manager_.Hear();
  ASSERT_EQ(manager_.Names(kSocket).size(), 4U);
  ASSERT_EQ(manager_.Names().size(), 7U) << "and a state, the keys, the counters";
  const std::string bound = first->listeners.all()[1].bound;
  const auto key = first->keys.ring().current().name;
  first.reset();

  Life second(Given());
  EXPECT_TRUE(second.left.empty());
  EXPECT_EQ(second.next_generation, 7U);
  EXPECT_EQ(second.counters.Sums().at("reloads_ok"), 3U);
  EXPECT_EQ(second.keys.ring().current().name, key);
  ASSERT_EQ(second.listeners.all().size(), 2U);
  EXPECT_EQ(second.listeners.all()[1].bound, bound);
  second.Serve(Listening({"web", "other"}), 3);
  EXPECT_EQ(second.listeners.all()[1].bound, bound) << "nothing else is bound";
  manager_.Hear();
  EXPECT_EQ(manager_.Names(kSocket).size(), 6U);
  EXPECT_EQ(manager_.Names().size(), 9U) << "what was replaced is gone";
}

TEST_F(DescriptorStoreTest, SocketsOfASocketUnitAreLeftToTheListeners) {
  std::vector<GivenSocket> given;
  given.push_back(GivenSocket{.name = "tidegate.socket", .bound = "127.0.0.1:1"});
  given.push_back(GivenSocket{.name = "tidegate.store.odd"});
  std::optional<Life> life;
  manager_.HearWhile([&] { life.emplace(std::move(given)); });
  ASSERT_EQ(life->left.size(), 1U);
  EXPECT_EQ(life->left[0].name, "tidegate.socket");
}

TEST_F(DescriptorStoreTest, WhatHasNotChangedIsNotSentAgain) {
  Life life;
  life.Serve(Listening({"web"}), 2);
  EXPECT_FALSE(manager_.Hear().empty());
  life.store.Follow();
  EXPECT_TRUE(manager_.Hear().empty());
}

TEST_F(DescriptorStoreTest, WhatTheManagerHasLostIsThereAfterTheNextOperation) {
  Life life;
  life.Serve(Listening({"web"}), 2);
  manager_.Hear();
  const std::vector<std::string> names = manager_.Names();
  life.store.SendAll();
  EXPECT_EQ(manager_.Hear().size(), names.size());
  EXPECT_EQ(manager_.Names(), names) << "what is there already is ignored";
  manager_.store.clear();
  life.store.SendAll();
  manager_.Hear();
  EXPECT_EQ(manager_.Names().size(), names.size());
  EXPECT_TRUE(std::ranges::is_permutation(manager_.Names(), names)) << "by the same names";
  life.store.Follow();
  EXPECT_TRUE(manager_.Hear().empty()) << "once";
}

// Invariant 1.
TEST_F(DescriptorStoreTest, AStateGoesWhenTheNextOneIsThere) {
  Life life;
  life.Serve(Listening({"web"}), 1);
  manager_.Hear();
  const std::string old = manager_.Names(kState).at(0);
  life.next_generation = 5;
  life.store.Follow();
  std::vector<std::string> heard = manager_.Hear();
  ASSERT_GE(heard.size(), 2U);
  EXPECT_TRUE(heard[0].starts_with("FDSTORE=1\nFDNAME=tidegate.store.state.")) << heard[0];
  EXPECT_EQ(heard[1], "FDSTOREREMOVE=1\nFDNAME=" + old + "\n");
  ASSERT_EQ(manager_.Names(kState).size(), 1U);
  EXPECT_NE(manager_.Names(kState)[0], old);
  EXPECT_EQ(State()["next_generation"], 5U);
}

// Invariant 2.
TEST_F(DescriptorStoreTest, AListenerIsTakenBackBeforeItIsClosed) {
  Life life;
  life.Serve(Listening({"web", "other"}), 2);
  manager_.Hear();
  ASSERT_TRUE(life.listeners.Prepare(Listening({"web"}), 2));
  ASSERT_TRUE(life.listeners.Listen());
  std::vector<std::uint64_t> dropped = life.listeners.Commit();
  life.store.Follow(dropped);
  manager_.Hear();
  EXPECT_EQ(life.listeners.all().size(), 2U) << "it is still open";
  EXPECT_EQ(manager_.Names(kSocket).size(), 2U);
  ASSERT_EQ(State()["listeners"].size(), 1U);
  EXPECT_EQ(State()["listeners"][0]["name"], "web");
  life.store.Follow();
  EXPECT_TRUE(manager_.Hear().empty()) << "it does not come back while it is open";
}

// Invariant 3.
TEST_F(DescriptorStoreTest, WhatCannotBeUsedIsTakenBackAtOnce) {
  std::optional<Life> first(std::in_place);
  first->Serve(Listening({"web"}), 2);
  manager_.Hear();
  first.reset();
  for (const char* text : {"{", "[]", R"({"format": 2})"}) {
    Replace(kState, text);
    const bool holds_a_port = !manager_.Names(kSocket).empty();
    std::optional<Life> second;
    std::vector<GivenSocket> given = Given();
    std::vector<std::string> heard = manager_.HearWhile([&] { second.emplace(std::move(given)); });
    EXPECT_TRUE(second->listeners.all().empty());
    EXPECT_EQ(second->next_generation, 1U);
    EXPECT_EQ(!heard.empty() && heard.back() == "BARRIER=1", holds_a_port);
    EXPECT_TRUE(manager_.Names(kSocket).empty());
  }
}

TEST_F(DescriptorStoreTest, ADescriptorThatIsNotWhatTheStateSaysIsNotUsed) {
  std::optional<Life> first(std::in_place);
  first->Serve(Listening({"web"}), 3);
  manager_.Hear();
  const std::string bound = first->listeners.all()[0].bound;
  first.reset();
  // One is missing, one listens elsewhere.
  auto lost = std::ranges::find_if(manager_.store,
                                   [](const auto& one) { return one.first.starts_with(kSocket); });
  UniqueFd elsewhere(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::listen(elsewhere.get(), 1), 0);
  lost->second = std::move(elsewhere);
  manager_.store.erase(lost + 1);
  std::optional<Life> second;
  std::vector<GivenSocket> given = Given();
  manager_.HearWhile([&] { second.emplace(std::move(given)); });
  ASSERT_EQ(second->listeners.all().size(), 1U);
  EXPECT_EQ(second->listeners.all()[0].slots.size(), 1U);
  EXPECT_EQ(second->listeners.all()[0].bound, bound);
  second->Serve(Listening({"web"}), 3);
  EXPECT_EQ(second->listeners.all()[0].slots.size(), 3U);
}

TEST_F(DescriptorStoreTest, AManagerThatDoesNotReadHoldsUpAStartOnceForAll) {
  std::vector<GivenSocket> given;
  for (int number = 0; number < 50; ++number) {
    given.push_back(GivenSocket{.name = kSocket + std::to_string(number)});
  }
  manager_.Fill();
  const auto began = std::chrono::steady_clock::now();
  Life life(std::move(given));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  EXPECT_FALSE(life.store.has_taken_back());
}

TEST_F(DescriptorStoreTest, WhatIsInTheWayIsClosedHereAndThereAtOnce) {
  std::optional<Life> first(std::in_place);
  first->Serve(Listening({"web", "other"}), 2);
  manager_.Hear();
  const std::string bound = first->listeners.all()[0].bound;
  first.reset();
  Life second(Given());
  std::vector<std::string> heard =
      manager_.HearWhile([&] { second.store.Release({second.listeners.all()[0].id}); });
  ASSERT_EQ(heard.size(), 3U);
  EXPECT_EQ(heard[2], "BARRIER=1");
  EXPECT_EQ(manager_.Names(kSocket).size(), 2U);
  ASSERT_EQ(second.listeners.all().size(), 1U);
  Config config = Listening({"web"}, bound);
  config.listeners[0].accept = AcceptMode::kShared;
  EXPECT_TRUE(second.listeners.Prepare(config, 1)) << "nobody has it any more";
}

TEST_F(DescriptorStoreTest, WhatOrphansHaveBroughtIsNotAdoptedTwice) {
  std::optional<Life> first(std::in_place);
  first->Serve(Listening({"web"}), 2);
  first->counters.Add(CounterId::kReloadsOk, 3);
  manager_.Hear();

  Life second;
  std::vector<GivenSocket> given = Given();
  second.store.Take(given);
  const ListenerSockets& held = first->listeners.all()[0];
  std::vector<UniqueFd> slots;
  for (const UniqueFd& fd : held.slots) {
    slots.emplace_back(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  }
  second.listeners.Adopt(held.key, "web", held.bound, held.id, std::move(slots));
  ASSERT_TRUE(
      second.counters.Adopt(UniqueFd(::fcntl(first->counters.memfd(), F_DUPFD_CLOEXEC, 3)), 1));
  second.store.Bring();
  EXPECT_EQ(second.listeners.all().size(), 1U);
  EXPECT_EQ(second.listeners.all()[0].slots.size(), 2U);
  EXPECT_EQ(second.counters.Sums().at("reloads_ok"), 3U);
}

TEST_F(DescriptorStoreTest, WhereThereIsLittleRoomTheStateComesFirst) {
  ::setenv("FDSTORE", "18", 1);
  Life life;
  ::unsetenv("FDSTORE");
  life.Serve(Listening({"web", "other"}), 3);
  manager_.Hear();
  EXPECT_EQ(manager_.Names(kSocket).size(), 2U) << "16 are kept free";
  ASSERT_EQ(State()["listeners"].size(), 1U);
  EXPECT_EQ(State()["listeners"][0]["sockets"].size(), 2U) << "it says what was sent";
}

TEST_F(DescriptorStoreTest, NothingIsSentUnlessSomebodySaysThatThereIsAStore) {
  ::unsetenv("TIDEGATE_FDSTORE");
  Life life;
  life.Serve(Listening({"web"}), 2);
  life.Use("web");
  life.store.SendAll();
  life.store.ForgetConfig();
  life.store.Empty();
  EXPECT_TRUE(manager_.Hear().empty());
  EXPECT_TRUE(life.store.is_flushed());
  // An image before us has used it.
  DescriptorStore next(
      life.loop, life.notify,
      {life.listeners, life.counters, life.keys, life.next_generation, life.config});
  next.Restore({{"stored", {"tidegate.store.socket.1"}}, {"serial", 1}});
  next.Follow();
  manager_.Hear();
  EXPECT_EQ(manager_.Names(kSocket).size(), 2U);
}

// MAX_ARG_STRLEN of Linux, with the zero at the end.
constexpr std::size_t kLongestVariable = 128 * 1024;

TEST(RoomForSockets, KeepsTheNamesShortEnoughForOneVariable) {
  for (const std::string& number :
       {std::string("1"), std::string("4294967295"), std::string(20, '9')}) {
    RoomForSockets room(100'000);
    std::string names = "LISTEN_FDNAMES=";
    std::size_t count = 0;
    for (; room.Take(kSocket + number); ++count) {
      names += kSocket + number + ":";
    }
    // Twice what replaces something, and names that a person has chosen.
    for (int other = 0; other < 16; ++other) {
      names += "tidegate.store.counters." + std::string(20, '9') + ":";
    }
    names += std::string(4096, 'x');
    EXPECT_LT(names.size() + 1, kLongestVariable);
    EXPECT_GT(count, 2500U);
  }
  RoomForSockets few(2);
  EXPECT_TRUE(few.Take("a") && few.Take("b"));
  EXPECT_FALSE(few.Take("c"));
}

TEST_F(DescriptorStoreTest, AStateThatIsReplacedFindsRoomInAFullStore) {
  manager_.room = 5;
  Life life;
  life.Serve(Listening({"web"}), 4);
  manager_.Hear();
  ASSERT_EQ(manager_.Names().size(), 5U);
  life.next_generation = 9;
  life.store.Follow();
  manager_.Hear();
  EXPECT_EQ(State()["next_generation"], 9U);
}

TEST_F(DescriptorStoreTest, AManagerThatDoesNotReadIsToldLater) {
  Life life;
  manager_.Fill();
  life.Serve(Listening({"web"}), 2);
  EXPECT_FALSE(life.store.is_flushed());
  manager_.Hear();
  EXPECT_TRUE(manager_.Names().empty());
  while (!life.store.is_flushed()) {
    life.loop.RunNoWait();
  }
  manager_.Hear();
  EXPECT_EQ(manager_.Names(kSocket).size(), 2U);
  EXPECT_EQ(State()["listeners"].size(), 1U);
}

TEST_F(DescriptorStoreTest, TheNextImageGoesOnWithWhatIsStored) {
  Life life;
  life.Serve(Listening({"web"}), 2);
  manager_.Hear();
  const std::vector<std::string> sockets = manager_.Names(kSocket);
  DescriptorStore next(
      life.loop, life.notify,
      {life.listeners, life.counters, life.keys, life.next_generation, life.config});
  next.Restore(life.store.Save());
  manager_.store.erase(
      std::ranges::find(manager_.store, sockets[0], &std::pair<std::string, UniqueFd>::first));
  next.Follow();
  manager_.Hear();
  EXPECT_TRUE(std::ranges::is_permutation(manager_.Names(kSocket), sockets))
      << "also what the manager has lost meanwhile";
  EXPECT_EQ(manager_.Names().size(), 5U);
}

TEST_F(DescriptorStoreTest, AFrozenStoreKeepsWhatIsClosedAndAnEmptyOneNothing) {
  Life life;
  life.Serve(Listening({"web"}), 2);
  manager_.Hear();
  DescriptorStore other(
      life.loop, life.notify,
      {life.listeners, life.counters, life.keys, life.next_generation, life.config});
  other.Restore(life.store.Save());
  life.store.Freeze();
  life.listeners.Close({life.listeners.all()[0].id});
  life.store.Follow();
  EXPECT_TRUE(manager_.Hear().empty());
  EXPECT_EQ(manager_.Names(kSocket).size(), 2U);
  other.Empty();
  manager_.Hear();
  EXPECT_TRUE(manager_.Names().empty());
}

// --- the configuration

TEST_F(DescriptorStoreTest, TheNextOneMayHaveTheConfigurationThatWasInForce) {
  std::optional<Life> first(std::in_place);
  first->Serve(Listening({"web"}), 1);
  first->Use("web");
  const std::string effective = first->config->effective;
  const double loaded = first->config->loaded;
  manager_.Hear();
  ASSERT_EQ(manager_.Names(kConfig).size(), 1U);
  first.reset();

  std::vector<GivenSocket> given = Given();
  Life second(std::move(given));
  ASSERT_TRUE(second.store.stored_config());
  EXPECT_EQ(second.store.stored_config()->effective, effective);
  EXPECT_DOUBLE_EQ(second.store.stored_config()->loaded, loaded);
  EXPECT_TRUE(manager_.Hear().empty()) << "it stays until another one is in force";
  second.Use("other");
  EXPECT_FALSE(second.store.stored_config());
  manager_.Hear();
  EXPECT_EQ(manager_.Names(kConfig).size(), 1U);
  EXPECT_EQ(State()["config"], manager_.Names(kConfig)[0]);
}

// Invariant 1.
TEST_F(DescriptorStoreTest, AConfigurationIsThereBeforeTheStateThatNamesItAndGoesAfterIt) {
  Life life;
  life.Use("web");
  manager_.Hear();
  const std::string old = manager_.Names(kConfig).at(0);
  life.Use("other");
  std::vector<std::string> heard = manager_.Hear();
  auto at = [&](const std::string& start) {
    return std::ranges::find_if(heard, [&](const auto& one) { return one.starts_with(start); }) -
           heard.begin();
  };
  EXPECT_LT(at("FDSTORE=1\nFDNAME=tidegate.store.config."),
            at("FDSTORE=1\nFDNAME=tidegate.store.state."));
  EXPECT_LT(at("FDSTORE=1\nFDNAME=tidegate.store.state."), at("FDSTOREREMOVE=1\nFDNAME=" + old));
  EXPECT_LT(at("FDSTOREREMOVE=1\nFDNAME=" + old), std::ssize(heard));
  life.store.Follow();
  EXPECT_TRUE(manager_.Hear().empty());
}

TEST_F(DescriptorStoreTest, AConfigurationThatIsForgottenDoesNotComeBack) {
  Life life;
  life.Serve(Listening({"web"}), 1);
  life.Use("web");
  manager_.Hear();
  const std::vector<std::string> names = manager_.Names(kConfig);
  life.store.ForgetConfig();
  EXPECT_EQ(manager_.Hear().front(), "FDSTOREREMOVE=1\nFDNAME=" + names.at(0) + "\n") << "first";
  EXPECT_TRUE(manager_.Names(kConfig).empty());
  EXPECT_FALSE(State().contains("config"));
  life.Use("other");
  life.store.SendAll();
  manager_.Hear();
  EXPECT_TRUE(manager_.Names(kConfig).empty());
  EXPECT_EQ(manager_.Names(kSocket).size(), 1U) << "nothing else is forgotten";
}

TEST_F(DescriptorStoreTest, AFrozenStoreStillForgetsTheConfiguration) {
  Life life;
  life.Use("web");
  manager_.Hear();
  manager_.Fill();
  life.store.ForgetConfig();
  life.store.Freeze();
  EXPECT_FALSE(life.store.is_flushed());
  manager_.Hear();
  ASSERT_EQ(manager_.Names(kConfig).size(), 1U);
  while (!life.store.is_flushed()) {
    life.loop.RunNoWait();
  }
  EXPECT_EQ(manager_.Hear().size(), 1U);
  EXPECT_TRUE(manager_.Names(kConfig).empty());
}

TEST_F(DescriptorStoreTest, WhatIsNoSealedConfigurationIsNone) {
  std::optional<Life> first(std::in_place);
  first->Use("web");
  manager_.Hear();
  first.reset();
  for (auto& [name, fd] : manager_.store) {
    if (name.starts_with(kConfig)) {
      fd.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
  }
  std::vector<GivenSocket> given = Given();
  Life second(std::move(given));
  EXPECT_FALSE(second.store.stored_config());
  second.Use("web");
  manager_.Hear();
  EXPECT_EQ(manager_.Names(kConfig).size(), 1U) << "it has gone";
}

// As an older version would: it has the name, and knows no such kind.
TEST_F(DescriptorStoreTest, TheNextImageReplacesTheConfigurationOfTheLast) {
  Life life;
  life.Use("web");
  manager_.Hear();
  const std::string old = manager_.Names(kConfig).at(0);
  DescriptorStore next(
      life.loop, life.notify,
      {life.listeners, life.counters, life.keys, life.next_generation, life.config});
  next.Restore(life.store.Save());
  EXPECT_EQ(manager_.Names(kConfig), std::vector{old}) << "until it follows";
  Result<ActiveConfigPtr> made = Activate(Listening({"web"}));
  ASSERT_TRUE(made);
  life.config = *made;
  next.Follow();
  manager_.Hear();
  ASSERT_EQ(manager_.Names(kConfig).size(), 1U);
  EXPECT_NE(manager_.Names(kConfig)[0], old);
}

TEST_F(DescriptorStoreTest, TheNamesTellThatAConfigurationComes) {
  ::setenv("LISTEN_FDNAMES", "web:tidegate.store.state.3", 1);
  EXPECT_FALSE(DescriptorStore::BringsConfig());
  ::setenv("LISTEN_FDNAMES", "web:tidegate.store.state.3:tidegate.store.config.2", 1);
  EXPECT_TRUE(DescriptorStore::BringsConfig());
  ::unsetenv("LISTEN_FDNAMES");
  EXPECT_FALSE(DescriptorStore::BringsConfig());
}

}  // namespace
}  // namespace tidegate
