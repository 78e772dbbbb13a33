#include "proxy/net/address_memory.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "common/address.h"

namespace tidegate {
namespace {

std::string TextOf(const SocketAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* octets = address.storage.ss_family == AF_INET
                           ? static_cast<const void*>(
                                 &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr)
                           : &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr;
  ::inet_ntop(address.storage.ss_family, octets, text.data(), text.size());
  return text.data();
}

std::vector<std::string> TextsOf(const std::vector<SocketAddress>& addresses) {
  std::vector<std::string> texts;
  for (const SocketAddress& address : addresses) {
    texts.push_back(TextOf(address));
  }
  return texts;
}

std::vector<std::string> Sorted(std::vector<std::string> texts) {
  std::ranges::sort(texts);
  return texts;
}

// What can be told of them.
std::vector<std::string> BoundedTextsOf(const std::vector<SocketAddress>& addresses) {
  std::vector<std::string> texts = TextsOf(addresses);
  texts.resize(std::min(texts.size(), kMostKnownAddresses));
  return texts;
}

}  // namespace

AddressMemory::Holder AddressMemory::Hold(const std::string& name) {
  return Holder(*this, entries_.try_emplace(name).first);
}

std::vector<AddressMemory::Holder> AddressMemory::Offer(const KnownAddresses& known) {
  for (const auto& [name, entry] : entries_) {
    if (!entry.addresses.empty() && !known.contains(name)) {
      Tell(name);
    }
  }
  std::vector<Holder> holders;
  for (const auto& [name, texts] : known) {
    holders.push_back(Hold(name));
    Entry& entry = holders.back().entry_->second;
    if (entry.is_own) {
      continue;
    }
    entry.addresses.clear();
    for (const std::string& text : texts) {
      SocketAddress address;
      if (IsIpAddress(text) && Address{.host = text}.ToSockaddr(address.storage, address.length)) {
        entry.addresses.push_back(address);
      }
    }
  }
  return holders;
}

void AddressMemory::Learn(const std::string& name, const std::vector<SocketAddress>& addresses) {
  auto found = entries_.find(name);
  if (found == entries_.end()) {
    return;
  }
  Entry& entry = found->second;
  bool same = Sorted(TextsOf(entry.addresses)) == Sorted(TextsOf(addresses));
  entry.addresses = addresses;
  entry.is_own = true;
  if (!same) {
    Tell(name);
  }
}

std::vector<SocketAddress> AddressMemory::Find(const std::string& name) const {
  auto found = entries_.find(name);
  return found == entries_.end() ? std::vector<SocketAddress>() : found->second.addresses;
}

KnownAddresses AddressMemory::All() const {
  KnownAddresses all;
  for (const auto& [name, entry] : entries_) {
    if (!entry.addresses.empty() && all.size() < kMostKnownNames) {
      all.emplace(name, BoundedTextsOf(entry.addresses));
    }
  }
  return all;
}

void AddressMemory::Tell(const std::string& name) {
  bool is_first = untold_.empty();
  untold_.insert(name);
  if (is_first && on_change_.function != nullptr) {
    on_change_();
  }
}

KnownAddresses AddressMemory::TakeChanges() {
  KnownAddresses changes;
  for (const std::string& name : std::exchange(untold_, {})) {
    auto found = entries_.find(name);
    if (found != entries_.end() && !found->second.addresses.empty()) {
      changes.emplace(name, BoundedTextsOf(found->second.addresses));
    }
  }
  return changes;
}

void AddressMemory::Holder::LetGo() {
  if (memory_ != nullptr && --entry_->second.holders == 0) {
    memory_->entries_.erase(entry_);
  }
  memory_ = nullptr;
}

}  // namespace tidegate
