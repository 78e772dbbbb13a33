#include "supervisor/descriptor_store.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

#include "common/control.h"
#include "supervisor/event_log.h"

namespace tidegate {
namespace {

using nlohmann::json;

constexpr std::uint64_t kFormat = 1;
// No socket unit's FileDescriptorName= looks like that by itself: the default is the unit's name,
// which ends with ".socket".
constexpr std::string_view kOurs = "tidegate.store.";
constexpr std::string_view kState = "state";
constexpr std::string_view kKeys = "keys";
constexpr std::string_view kConfig = "config";
// What our unit asks for: where an image before us has used a store of which nobody tells.
constexpr std::size_t kUsualRoom = 4096;
// For two states, two rings of keys, two configurations, the memories of the counters.
constexpr std::size_t kKeptFree = 16;

constexpr Duration kAgain = std::chrono::milliseconds(50);
constexpr Duration kBarrierLimit = std::chrono::seconds(2);
constexpr int kForgetPauses = 100;
constexpr int kForgetPauseMilliseconds = 10;

std::string NameOf(std::string_view kind, std::uint64_t number) {
  return fmt::format("{}{}.{}", kOurs, kind, number);
}

// The inode, which nothing else has while this is open.
std::string NameByInode(std::string_view kind, int fd) {
  struct stat info{};
  ::fstat(fd, &info);
  return NameOf(kind, info.st_ino);
}

// The number of a name of that kind.
std::optional<std::uint64_t> NumberIn(std::string_view name, std::string_view kind) {
  const std::string start = fmt::format("{}{}.", kOurs, kind);
  std::uint64_t number = 0;
  if (!name.starts_with(start)) {
    return std::nullopt;
  }
  name.remove_prefix(start.size());
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  bool all = error == std::errc() && end == name.data() + name.size();
  return all ? std::optional(number) : std::nullopt;
}

// How many descriptors systemd keeps; 0 if there is no store.
std::size_t RoomOfStore() {
  const char* text = std::getenv("FDSTORE");
  if (text == nullptr) {
    text = std::getenv("TIDEGATE_FDSTORE");
  }
  return text == nullptr ? 0 : std::strtoul(text, nullptr, 10);
}

bool IsUnix(std::string_view bound) {
  return bound.starts_with("unix:");
}

const json& ArrayIn(const json& object, const char* name) {
  static const json kEmpty = json::array();
  auto found = object.find(name);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

std::vector<std::string> NamesIn(const json& object, const char* name) {
  std::vector<std::string> names;
  for (const json& entry : ArrayIn(object, name)) {
    if (entry.is_string()) {
      names.push_back(entry.get<std::string>());
    }
  }
  return names;
}

}  // namespace

bool RoomForSockets::Take(const std::string& name) {
  const std::size_t octets = octets_ + name.size() + 1;
  if (count_ == 0 || octets > kMostOctets) {
    return false;
  }
  --count_;
  octets_ = octets;
  return true;
}

DescriptorStore::DescriptorStore(Loop& loop, Notify& notify, Belongings belongings)
    : notify_(notify),
      belongings_(belongings),
      again_due_(loop.timers(), Bind<&DescriptorStore::Update>(this)),
      room_(RoomOfStore()) {}

// --- what comes back

void DescriptorStore::Take(std::vector<GivenSocket>& given) {
  for (GivenSocket& one : given) {
    if (one.name.starts_with(kOurs)) {
      stored_.insert(one.name);
      for (std::string_view kind : {kState, kKeys, kConfig}) {
        serial_ = std::max(serial_, NumberIn(one.name, kind).value_or(0));
      }
      returned_[one.name] = std::move(one.fd);
    }
  }
  std::erase_if(given, [](const GivenSocket& one) { return one.name.starts_with(kOurs); });
  if (returned_.empty()) {
    return;
  }
  UseStore();
  std::string fault = "there is no state";
  returned_state_ = FindState(fault);
  if (returned_state_.is_null()) {
    LogEvent(
        LogLevel::kWarn,
        fmt::format("what systemd has kept for us cannot be used, all is made anew: {}", fault));
  }
  DropUnusable();
  ReadConfig();
}

bool DescriptorStore::BringsConfig() {
  const char* names = std::getenv("LISTEN_FDNAMES");
  return names != nullptr &&
         std::string_view(names).find(fmt::format("{}{}.", kOurs, kConfig)) != std::string::npos;
}

// What is there would stay as it is, also when we close it.
void DescriptorStore::UseStore() {
  room_ = room_ == 0 ? kUsualRoom : room_;
}

// Nothing is told of one that is damaged: it is missed only where the file cannot be used, and then
// the start fails and says why.
void DescriptorStore::ReadConfig() {
  auto found = returned_.find(TextOf(returned_state_, "config"));
  if (found == returned_.end()) {
    return;
  }
  if (Result<std::string> text = ReadMemfd(found->second.get())) {
    stored_config_ = StoredConfiguration{.effective = std::move(*text),
                                         .loaded = SecondsOf(returned_state_, "config_loaded")};
  }
}

json DescriptorStore::FindState(std::string& fault) {
  std::map<std::uint64_t, int, std::greater<>> states;
  for (const auto& [name, fd] : returned_) {
    if (auto number = NumberIn(name, kState)) {
      states[*number] = fd.get();
    }
  }
  for (const auto& [number, fd] : states) {
    Result<std::string> text = ReadMemfd(fd);
    json state = text ? json::parse(*text, nullptr, false) : json();
    if (!text) {
      fault = text.error().ToString();
    } else if (!state.is_object()) {
      fault = "the state is damaged";
    } else if (NumberOf(state, "format") != kFormat) {
      fault = fmt::format("the state has format {}, {} is known here", NumberOf(state, "format"),
                          kFormat);
    } else {
      return state;
    }
  }
  return nullptr;
}

// A path that leads elsewhere, or nowhere, brings nobody to the socket that was bound there.
bool DescriptorStore::IsUsableSocket(const std::string& name, const std::string& bound) const {
  auto found = returned_.find(name);
  int listens = 0;
  socklen_t size = sizeof(listens);
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (found == returned_.end() ||
      ::getsockopt(found->second.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
      listens == 0 ||
      ::getsockname(found->second.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
      SockaddrToString(reinterpret_cast<sockaddr*>(&address), length) != bound) {
    return false;
  }
  struct stat info{};
  return !IsUnix(bound) ||
         (::lstat(bound.substr(bound.find(':') + 1).c_str(), &info) == 0 && S_ISSOCK(info.st_mode));
}

void DescriptorStore::DropUnusable() {
  std::set<std::string> usable;
  std::size_t missing = 0;
  for (const json& listener : ArrayIn(returned_state_, "listeners")) {
    for (const std::string& name : NamesIn(listener, "sockets")) {
      if (IsUsableSocket(name, TextOf(listener, "bound"))) {
        usable.insert(name);
      } else {
        ++missing;
      }
    }
  }
  for (const std::string& name : NamesIn(returned_state_, "counters")) {
    usable.insert(name);
  }
  usable.insert(TextOf(returned_state_, "keys"));
  usable.insert(TextOf(returned_state_, "config"));
  if (missing > 0) {
    LogEvent(LogLevel::kWarn,
             fmt::format("{} of the sockets that systemd should have kept for us cannot be used; "
                         "they are bound anew",
                         missing));
  }
  std::vector<std::string> unusable;
  std::erase_if(returned_, [&](const auto& one) {
    if (usable.contains(one.first)) {
      return false;
    }
    // An old state holds no port: it goes with the next change.
    if (!NumberIn(one.first, kState)) {
      unusable.push_back(one.first);
    }
    return true;
  });
  TakeBackNow(unusable);
}

void DescriptorStore::Release(const std::vector<std::uint64_t>& listeners) {
  std::vector<std::string> names;
  for (std::uint64_t id : listeners) {
    const ListenerSockets* sockets = belongings_.listeners.Find(id);
    for (const UniqueFd& slot : sockets->slots) {
      names.push_back(NameByInode("socket", slot.get()));
    }
  }
  belongings_.listeners.Close(listeners);
  TakeBackNow(names);
}

void DescriptorStore::TakeBackNow(const std::vector<std::string>& names) {
  // One patience for all: a start must not take the longer the more there is.
  int pauses = kForgetPauses;
  bool taken_back = false;
  for (const std::string& name : names) {
    auto told = notify_.Forget(name);
    for (; told == Notify::Told::kLater && pauses > 0; --pauses) {
      ::poll(nullptr, 0, kForgetPauseMilliseconds);
      told = notify_.Forget(name);
    }
    if (told == Notify::Told::kSent) {
      stored_.erase(name);
      taken_back = true;
    }
  }
  has_taken_back_ = has_taken_back_ || taken_back;
  if (taken_back && !notify_.Barrier(kBarrierLimit)) {
    LogEvent(LogLevel::kWarn,
             "systemd does not say that it has closed what is not wanted; ports may be taken");
  }
}

void DescriptorStore::Bring() {
  auto take = [this](const std::string& name) {
    auto found = returned_.find(name);
    return found == returned_.end() ? UniqueFd() : std::move(found->second);
  };
  for (const json& listener : ArrayIn(returned_state_, "listeners")) {
    std::vector<UniqueFd> slots;
    for (const std::string& name : NamesIn(listener, "sockets")) {
      if (UniqueFd fd = take(name)) {
        slots.push_back(std::move(fd));
      }
    }
    if (!slots.empty()) {
      belongings_.listeners.AdoptStored(TextOf(listener, "key"), TextOf(listener, "name"),
                                        TextOf(listener, "bound"), NumberOf(listener, "id"),
                                        std::move(slots));
    }
  }
  // The newest last, as they were; each goes before the ones that are there.
  std::vector<std::string> memories = NamesIn(returned_state_, "counters");
  for (auto name = memories.rbegin(); name != memories.rend(); ++name) {
    UniqueFd fd = take(*name);
    Result<> adopted =
        fd ? belongings_.counters.AdoptStored(std::move(fd)) : Fail(ErrorKind::kProtocol, "gone");
    if (!adopted) {
      LogEvent(LogLevel::kWarn, fmt::format("counters that systemd should have kept are lost: {}",
                                            adopted.error().ToString()));
    }
  }
  belongings_.counters.FoldUnclaimed();
  if (UniqueFd keys = take(TextOf(returned_state_, "keys"));
      returned_state_.contains("keys") &&
      (!keys || !belongings_.keys.Learn(keys.get(), KeyRing::Now()))) {
    LogEvent(LogLevel::kWarn, "new keys for session tickets: systemd has kept none that we know");
  }
  belongings_.next_generation =
      std::max(belongings_.next_generation, NumberOf(returned_state_, "next_generation"));
  if (!returned_.empty()) {
    LogEvent(LogLevel::kInfo,
             fmt::format("systemd has kept {} descriptors for us", returned_.size()));
  }
  returned_.clear();
  returned_state_ = nullptr;
}

// --- what goes there

void DescriptorStore::Follow(const std::vector<std::uint64_t>& leaving) {
  stored_config_.reset();
  leaving_.insert(leaving.begin(), leaving.end());
  std::erase_if(leaving_,
                [this](std::uint64_t id) { return belongings_.listeners.Find(id) == nullptr; });
  Update();
}

void DescriptorStore::SendAll() {
  again_ = stored_;
  Follow();
}

void DescriptorStore::Empty() {
  mode_ = Mode::kEmptying;
  Update();
}

void DescriptorStore::ForgetConfig() {
  keeps_config_ = false;
  config_name_.clear();
  config_.reset();
  Update();
}

void DescriptorStore::Update() {
  again_due_.Disarm();
  if (!notify_.has_manager() || room_ == 0) {
    return;
  }
  bool told = keeps_config_ || TakeBackConfig();
  if (told && mode_ != Mode::kFrozen) {
    told = Write();
  }
  if (!told) {
    again_due_.Arm(kAgain);
  }
}

// The state goes before the sockets: where there is not room for all, it is what must be there.
bool DescriptorStore::Write() {
  if (mode_ == Mode::kEmptying) {
    return TakeBack({});
  }
  if (!PutKeys() || !PutConfig()) {
    return false;
  }
  Wanted wanted = WhatIsWanted();
  std::set<std::string> kept = {keys_name_, config_name_};
  for (const auto& [name, fd] : wanted.counters) {
    kept.insert(name);
    if (!Put(name, fd)) {
      return false;
    }
  }
  if (!PutState(wanted.state)) {
    return false;
  }
  kept.insert(state_name_);
  for (const auto& [name, fd] : wanted.sockets) {
    kept.insert(name);
  }
  if (!TakeBack(kept)) {
    return false;
  }
  // Again, if something has made room for them.
  if (!Put(state_name_, state_.get()) || !Put(keys_name_, keys_.get()) || !PutConfig()) {
    return false;
  }
  return std::ranges::all_of(wanted.sockets,
                             [this](const auto& one) { return Put(one.first, one.second); });
}

DescriptorStore::Wanted DescriptorStore::WhatIsWanted() {
  Wanted wanted;
  wanted.state = {{"format", kFormat},
                  {"next_generation", belongings_.next_generation},
                  {"listeners", ListenersIn(wanted.sockets)},
                  {"counters", json::array()}};
  if (!keys_name_.empty()) {
    wanted.state["keys"] = keys_name_;
  }
  if (config_ != nullptr) {
    wanted.state["config"] = config_name_;
    wanted.state["config_loaded"] = config_->loaded;
  }
  for (int fd : belongings_.counters.memfds()) {
    wanted.counters.emplace_back(NameByInode("counters", fd), fd);
    wanted.state["counters"].push_back(wanted.counters.back().first);
  }
  return wanted;
}

// Sockets of a socket unit are not among them: systemd gives them to each process by itself. What
// there is no room for is not named either, and bound anew.
json DescriptorStore::ListenersIn(Descriptors& sockets) const {
  const Listeners& listeners = belongings_.listeners;
  json list = json::array();
  RoomForSockets room(room_ > kKeptFree ? room_ - kKeptFree : 0);
  for (const ListenerSockets& each : listeners.all()) {
    if (each.repeated || leaving_.contains(each.id)) {
      continue;
    }
    json names = json::array();
    for (std::size_t slot = 0; slot < each.listening; ++slot) {
      std::string name = NameByInode("socket", each.slots[slot].get());
      if (room.Take(name)) {
        names.push_back(name);
        sockets.emplace_back(std::move(name), each.slots[slot].get());
      }
    }
    auto named = std::ranges::find(listeners.in_force(), each.id, &ListenerInForce::id);
    if (!names.empty()) {
      list.push_back({{"id", each.id},
                      {"key", each.key},
                      {"name", named == listeners.in_force().end() ? std::string() : named->name},
                      {"bound", each.bound},
                      {"sockets", names}});
    }
  }
  return list;
}

std::string DescriptorStore::FreshName(std::string_view kind) {
  return NameOf(kind, ++serial_);
}

bool DescriptorStore::PutKeys() {
  const std::uint64_t time = belongings_.keys.ring().rotated_at();
  if (!keys_name_.empty() && keys_time_ == time) {
    return Put(keys_name_, keys_.get());
  }
  Result<UniqueFd> keys = belongings_.keys.Pack();
  if (!keys) {
    LogEvent(LogLevel::kError, keys.error().ToString());
    return true;
  }
  keys_ = std::move(*keys);
  keys_name_ = FreshName(kKeys);
  keys_time_ = time;
  return Put(keys_name_, keys_.get());
}

bool DescriptorStore::PutConfig() {
  if (!keeps_config_ || belongings_.config == nullptr) {
    return true;
  }
  if (config_ != belongings_.config) {
    config_ = belongings_.config;
    config_name_ = FreshName(kConfig);
  }
  return Put(config_name_, config_->memfd.get());
}

bool DescriptorStore::PutState(const json& state) {
  std::string text = state.dump();
  if (text != state_text_) {
    Result<UniqueFd> memfd = MakeMemfd("tidegate-store", text);
    if (!memfd) {
      LogEvent(LogLevel::kError, memfd.error().ToString());
      return true;
    }
    state_ = std::move(*memfd);
    state_name_ = FreshName(kState);
    state_text_ = std::move(text);
  }
  return Put(state_name_, state_.get());
}

bool DescriptorStore::Put(const std::string& name, int fd) {
  if (fd < 0 || (stored_.contains(name) && !again_.contains(name))) {
    return true;
  }
  const Notify::Told told = notify_.Store(name, fd);
  if (told == Notify::Told::kSent) {
    stored_.insert(name);
    again_.erase(name);
  }
  return told != Notify::Told::kLater;
}

bool DescriptorStore::TakeBack(const std::set<std::string>& kept) {
  for (auto name = stored_.begin(); name != stored_.end();) {
    if (kept.contains(*name)) {
      ++name;
      continue;
    }
    const Notify::Told told = notify_.Forget(*name);
    if (told == Notify::Told::kLater) {
      return false;
    }
    name = told == Notify::Told::kSent ? stored_.erase(name) : std::next(name);
    again_.insert({state_name_, keys_name_, config_name_});
  }
  return true;
}

bool DescriptorStore::TakeBackConfig() {
  std::set<std::string> kept = stored_;
  std::erase_if(kept, [](const std::string& name) { return NumberIn(name, kConfig).has_value(); });
  return TakeBack(kept);
}

// --- from image to image

json DescriptorStore::Save() const {
  return {{"stored", stored_}, {"serial", serial_}};
}

void DescriptorStore::Restore(const json& saved) {
  for (const std::string& name : NamesIn(saved, "stored")) {
    stored_.insert(name);
  }
  again_ = stored_;
  serial_ = NumberOf(saved, "serial");
  if (!stored_.empty()) {
    UseStore();
  }
}

}  // namespace tidegate
