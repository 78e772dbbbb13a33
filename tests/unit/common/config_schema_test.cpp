// The schema, and the table that it comes from. tests/e2e/test_schema.py validates files with it.

#include <algorithm>
#include <functional>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/config_settings.h"
#include "tests/support/config_text.h"

namespace tidegate {
namespace {

using Json = nlohmann::ordered_json;

// Calls `visit` for each row below `section`, with a default-constructed owner.
void VisitRows(const Section& section, void* owner,
               const std::function<void(const Section&, const Setting&, void*)>& visit) {
  for (const Setting& setting : section.settings) {
    visit(section, setting, owner);
    if (setting.section == nullptr) {
      continue;
    }
    EndpointConfig endpoint;
    void* inner = setting.type == &kEndpoints ? &endpoint
                  : setting.list != nullptr   ? setting.list->append(owner)
                                              : setting.field(owner);
    VisitRows(*setting.section, inner, visit);
  }
}

void VisitAllRows(const std::function<void(const Section&, const Setting&, void*)>& visit) {
  Config config;
  VisitRows(RootSection(), &config, visit);
}

TEST(SettingsTable, TheDefaultOfEachRowIsThatOfItsStruct) {
  std::size_t rows = 0;
  VisitAllRows([&](const Section& section, const Setting& setting, void* owner) {
    if (setting.default_text.empty()) {
      return;
    }
    ++rows;
    Json value = setting.type->write(setting, setting.FieldOf(owner));
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    // "60s" and "1m" are one duration.
    if (auto duration = ParseDuration(setting.default_text); duration) {
      EXPECT_EQ(FormatDuration(*duration), text) << section.name << "." << setting.key;
    } else {
      EXPECT_EQ(setting.default_text, text) << section.name << "." << setting.key;
    }
  });
  EXPECT_GE(rows, 30U);
}

TEST(SettingsTable, EveryRowHelpsInOneSentence) {
  VisitAllRows([](const Section& section, const Setting& setting, void*) {
    EXPECT_FALSE(setting.help.empty()) << section.name << "." << setting.key;
    EXPECT_TRUE(setting.help.ends_with('.')) << section.name << "." << setting.key;
    EXPECT_FALSE(setting.type->noun.empty());
    EXPECT_LE(setting.range.least, setting.range.most);
  });
}

TEST(SettingsTable, KeysAreUniqueAndInSnakeCase) {
  VisitAllRows([](const Section& section, const Setting& setting, void*) {
    EXPECT_EQ(setting.key.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789"),
              std::string_view::npos);
    EXPECT_EQ(std::ranges::count(section.settings, setting.key, &Setting::key), 1) << setting.key;
  });
}

TEST(ConfigSchema, DescribesEveryRow) {
  Json schema = Json::parse(ConfigSchema());
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["additionalProperties"], false);
  EXPECT_EQ(schema["properties"].size() + static_cast<std::size_t>(std::ranges::count(
                                              RootSection().settings, true, &Setting::internal)),
            RootSection().settings.size());
  for (const Setting& setting : RootSection().settings) {
    if (setting.internal) {
      EXPECT_FALSE(schema["properties"].contains(std::string(setting.key)));
      continue;
    }
    EXPECT_EQ(schema["properties"][std::string(setting.key)]["description"], setting.help);
  }
  EXPECT_EQ(schema["properties"]["limits"]["properties"]["max_headers"]["default"], 100);
  EXPECT_EQ(schema["properties"]["timeouts"]["properties"]["keepalive"]["default"], "75s");
  EXPECT_EQ(schema["properties"]["forwarded"]["properties"]["via"]["default"], true);
}

TEST(ConfigSchema, SaysWhatIsRequired) {
  Json schema = Json::parse(ConfigSchema());
  EXPECT_EQ(schema["properties"]["listeners"]["items"]["required"], Json::array({"bind"}));
  EXPECT_EQ(schema["properties"]["routes"]["items"]["oneOf"].size(), 3U);
}

}  // namespace
}  // namespace tidegate
