#include <optional>

#include "common/config_load.h"
#include "supervisor/generation.h"
#include "tests/unit/supervisor/worker_rig.h"

namespace tidegate {
namespace {

using nlohmann::json;

class GenerationStateTest : public WorkerRig {
 protected:
  void SetUp() override {
    WorkerRig::SetUp();
    // What a worker is given when it has said hello.
    ASSERT_TRUE(logs_.Prepare(LoggingConfig{}));
    logs_.Commit();
    surroundings_.control_listener = worker_end_.get();
    auto loaded = LoadConfigText("test.json", R"({"listen": ":0", "upstream": "app.test:80"})",
                                 [](std::string_view) { return std::nullopt; });
    ASSERT_TRUE(loaded);
    auto config = std::make_shared<ActiveConfig>();
    config->config = loaded->config;
    generation_.emplace(surroundings_, Generation::Parts{.number = 7,
                                                         .config = config,
                                                         .worker_program = {},
                                                         .version = "1.0.0",
                                                         .workers = 1,
                                                         .identity = std::nullopt});
    generation_->AdoptWorker(0, pid_, std::move(channel_), row_);
  }
  void TearDown() override {
    generation_.reset();
    WorkerRig::TearDown();
  }

  std::optional<Generation> generation_;
};

TEST_F(GenerationStateTest, BooksWhatItsWorkersResolveOfItsOwnNames) {
  json told = MakeControlMessage("resolved");
  told["addresses"] = {{"app.test", {"192.0.2.1"}}, {"evil.test", {"192.0.2.6"}}};
  Say(told);
  EXPECT_EQ(addresses_.all(), (KnownAddresses{{"app.test", {"192.0.2.1"}}}));
  told["addresses"] = {{"app.test", {"192.0.2.2"}}};
  Say(told);
  EXPECT_EQ(addresses_.all(), (KnownAddresses{{"app.test", {"192.0.2.2"}}}));
  told["addresses"] = {{"app.test", json::array()}};
  Say(told);
  EXPECT_EQ(addresses_.all(), (KnownAddresses{{"app.test", {"192.0.2.2"}}}));
}

TEST_F(GenerationStateTest, TellsHowItsWorkersAreConfined) {
  EXPECT_FALSE(generation_->Status()["workers"][0].contains("confinement")) << "nobody has said";
  json hello = MakeControlMessage("hello");
  hello["confinement"] = {{"seccomp", {{"in_force", true}}},
                          {"landlock", {{"in_force", false}, {"note", "none here"}}}};
  Say(hello);
  EXPECT_EQ(generation_->Status()["workers"][0]["confinement"], hello["confinement"]);
  // And so does the next image.
  std::vector<int> fds;
  EXPECT_EQ(generation_->Save(fds)["slots"][0]["worker"]["confinement"], hello["confinement"]);
  EXPECT_TRUE(generation_->Save(fds)["told_confinement"]);
}

TEST_F(GenerationStateTest, NamesWhatItsWorkersResolve) {
  NameSet names;
  generation_->AddNames(names);
  EXPECT_EQ(names, NameSet{"app.test"});
}

}  // namespace
}  // namespace tidegate
