#pragma once

// What an old worker tells a new one about connections that it offers (common/control_messages.h,
// section 3), in one record each: a JSON object, descriptors, and octets. Texts that a peer sent
// stand in no JSON, because they may be no text: the object says how long they are, and they follow
// each other in the octets.
//
// Version 1. A reader that is told of another version takes none; what a record has besides what is
// read here is ignored.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/hand_over_kinds.h"
#include "common/result.h"
#include "proxy/exchange_log.h"
#include "proxy/moving.h"

namespace tidegate {

inline constexpr std::uint64_t kHandOverRecord = 1;
// Of one batch.
inline constexpr std::size_t kMostInABatch = 64;

// kRecord for a name that we do not know: a newer worker may have more reasons.
Decline DeclineOf(std::string_view name);

using Moving = std::variant<MovingConnection, MovingUpstream>;
MoveKind KindOf(const Moving& moving);
// 1; of a tunnel 2.
std::size_t DescriptorsOf(const Moving& moving);

// Makes the offer of a batch.
class HandOverWriter {
 public:
  // `moving` keeps its descriptors; they must live until the offer is sent.
  void Add(const Moving& moving, TimePoint now);
  // As much as one offer should carry.
  bool full() const { return octets_.size() >= kManyOctets; }
  const nlohmann::json& connections() const { return connections_; }
  const std::string& octets() const { return octets_; }
  const std::vector<int>& fds() const { return fds_; }

 private:
  static constexpr std::size_t kManyOctets = std::size_t{2} << 20;

  void AddText(nlohmann::json& record, const char* name, std::string_view text);
  void AddAccount(nlohmann::json& record, const ExchangeAccount& account);

  nlohmann::json connections_ = nlohmann::json::array();
  std::string octets_;
  std::vector<int> fds_;
};

// One record, read and not yet judged.
struct OfferedConnection {
  MoveKind kind = MoveKind::kIdle;
  // The client's; of a pooled connection the endpoint's.
  UniqueFd fd;
  UniqueFd upstream_fd;
  // The name of the listener, and our port as clients know it.
  std::string listener;
  std::string port;
  // As ClientInfo::speaks.
  std::uint8_t speaks = 0;
  Duration age{};
  Duration patience = kNever;
  std::uint64_t octets_in = 0;
  std::uint64_t octets_out = 0;
  std::uint16_t hand_overs = 0;
  bool parked = false;
  std::string unread;
  std::string to_client;
  Duration tunnel_patience = kNever;
  // Of a tunnel; of a pooled connection, its upstream and endpoint.
  ExchangeAccount account;
};

// Reads the offer of a batch. Error: kProtocol; then none of it can be used, and every descriptor
// is closed.
Result<std::vector<OfferedConnection>> ReadHandOver(const nlohmann::json& connections,
                                                    std::string_view octets,
                                                    std::vector<UniqueFd> fds);

}  // namespace tidegate
