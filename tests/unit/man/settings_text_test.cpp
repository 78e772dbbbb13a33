#include "man/settings_text.h"

#include <gtest/gtest.h>

#include "common/config_settings.h"

namespace tidegate {
namespace {

bool Has(std::string_view section, std::string_view text) {
  auto written = SettingsText(section);
  return written && written->find(text) != std::string::npos;
}

TEST(SettingsText, AKeyHasItsTypeRangeDefaultAndHelp) {
  EXPECT_TRUE(
      Has("timeouts", "*keepalive*: _duration or off_, 1ms to 365d, default 75s\n\tHow long an"));
  EXPECT_TRUE(Has("limits", "*max\\_header\\_bytes*: _size_, 1KiB to 1MiB, default 32KiB\n"));
  EXPECT_TRUE(
      Has("timeouts", "*body\\_min\\_rate*: _size/s or off_, 1B/s to 1GiB/s, default off\n"));
  EXPECT_TRUE(Has("", "*workers*: _number or auto_, 1 to 256, default auto\n"));
}

TEST(SettingsText, WordsToChooseFromAreNamed) {
  EXPECT_TRUE(Has("listeners", "*accept*: _reuseport or shared_, default reuseport\n"));
  EXPECT_TRUE(Has("logging", "*level*: _debug, info, warn or error_, default info\n"));
}

TEST(SettingsText, AListSaysWhatItIsOf) {
  EXPECT_TRUE(Has("routes", "*methods*: _array of methods_\n"));
  EXPECT_TRUE(Has("routes", "*host*: _host or array of hosts_\n"));
  EXPECT_TRUE(Has("upstreams", "*endpoints*: _array of addresses_, required\n"));
}

TEST(SettingsText, ALimitOfArithmeticIsNoRange) {
  EXPECT_TRUE(Has("limits", "*max\\_body*: _size or off_, default off\n"));
}

TEST(SettingsText, KeysOfAnObjectInsideHaveItsNameBefore) {
  EXPECT_TRUE(Has("upstreams", "*queue.size*: "));
  EXPECT_TRUE(Has("upstreams", "*tls.client\\_key.file*: _path_, required\n"));
  EXPECT_TRUE(Has("upstreams", "*endpoints[].address*: "));
}

TEST(SettingsText, AnExceptionFromAGeneralSectionIsNotToldTwice) {
  EXPECT_TRUE(Has("routes", "*timeouts*: _object_\n"));
  EXPECT_FALSE(Has("routes", "*timeouts.keepalive*"));
}

TEST(SettingsText, OneOfSeveralKeysIsSaid) {
  EXPECT_TRUE(
      Has("routes", "One of *upstream*, *respond*, *redirect*, and only one, must be there."));
}

TEST(SettingsText, InternalKeysAreNotTold) {
  EXPECT_FALSE(Has("certificates", "pem"));
  EXPECT_FALSE(Has("", "system\\_roots"));
  EXPECT_FALSE(SettingsText("system_roots"));
}

TEST(SettingsText, ThereIsNoSectionOfAKeyThatIsNoObject) {
  EXPECT_FALSE(SettingsText("workers"));
  EXPECT_FALSE(SettingsText("nothing"));
}

TEST(SettingsText, EverySectionOfTheTableIsWritten) {
  for (const Setting& setting : RootSection().settings) {
    if (!setting.internal) {
      EXPECT_EQ(SettingsText(setting.key).has_value(), setting.section != nullptr) << setting.key;
    }
  }
}

}  // namespace
}  // namespace tidegate
