#pragma once

// A DNS server on the loop of a test.

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <uv.h>

#include "common/loop.h"

namespace tidegate {

struct DnsAnswer {
  std::string address;  // of either family
  std::uint32_t ttl = 60;
};

// Answers what it was told to, NXDOMAIN otherwise. Closed before the loop ends.
class DnsServer {
 public:
  explicit DnsServer(Loop& loop) {
    uv_udp_init(loop.uv(), &udp_);
    udp_.data = this;
    sockaddr_in any{};
    uv_ip4_addr("127.0.0.1", 0, &any);
    EXPECT_EQ(uv_udp_bind(&udp_, reinterpret_cast<sockaddr*>(&any), 0), 0);
    uv_udp_recv_start(&udp_, &DnsServer::OnAllocate, &DnsServer::OnQuery);
  }
  void Close() { uv_close(reinterpret_cast<uv_handle_t*>(&udp_), nullptr); }

  std::string address() const {
    sockaddr_in bound{};
    int length = sizeof(bound);
    EXPECT_EQ(uv_udp_getsockname(&udp_, reinterpret_cast<sockaddr*>(&bound), &length), 0);
    return "127.0.0.1:" + std::to_string(ntohs(bound.sin_port));
  }

  std::map<std::string, std::vector<DnsAnswer>> names;
  // Queries are heard and not answered.
  bool silent = false;
  int queries = 0;

 private:
  static void OnAllocate(uv_handle_t* handle, std::size_t, uv_buf_t* out) {
    auto* self = static_cast<DnsServer*>(handle->data);
    *out = uv_buf_init(self->buffer_.data(), static_cast<unsigned>(self->buffer_.size()));
  }
  static void OnQuery(uv_udp_t* handle, ssize_t size, const uv_buf_t* buffer, const sockaddr* from,
                      unsigned) {
    auto* self = static_cast<DnsServer*>(handle->data);
    if (size <= 0 || from == nullptr) {
      return;
    }
    ++self->queries;
    if (self->silent) {
      return;
    }
    std::string reply = self->ReplyTo(std::string(buffer->base, static_cast<std::size_t>(size)));
    uv_buf_t out = uv_buf_init(reply.data(), static_cast<unsigned>(reply.size()));
    uv_udp_try_send(handle, &out, 1, from);
  }

  static void Put16(std::string& out, unsigned value) {
    out += static_cast<char>(value >> 8);
    out += static_cast<char>(value & 0xff);
  }

  // RFC 1035 section 4: header, question, answers whose name points to the question's.
  std::string ReplyTo(const std::string& query) {
    std::string name;
    std::size_t offset = 12;
    while (query.at(offset) != 0) {
      auto length = static_cast<std::size_t>(query[offset]);
      name += (name.empty() ? "" : ".") + query.substr(offset + 1, length);
      offset += 1 + length;
    }
    bool wants_ipv6 = query.at(offset + 2) == 28;
    std::string records;
    unsigned count = 0;
    auto known = names.find(name);
    for (const DnsAnswer& answer :
         known == names.end() ? std::vector<DnsAnswer>{} : known->second) {
      bool is_ipv6 = answer.address.find(':') != std::string::npos;
      std::array<char, 16> octets{};
      EXPECT_EQ(inet_pton(is_ipv6 ? AF_INET6 : AF_INET, answer.address.c_str(), octets.data()), 1);
      if (is_ipv6 != wants_ipv6) {
        continue;
      }
      ++count;
      Put16(records, 0xc00c);
      Put16(records, is_ipv6 ? 28 : 1);
      Put16(records, 1);
      Put16(records, answer.ttl >> 16);
      Put16(records, answer.ttl & 0xffff);
      Put16(records, is_ipv6 ? 16 : 4);
      records.append(octets.data(), is_ipv6 ? 16 : 4);
    }
    std::string reply = query.substr(0, 2);
    Put16(reply, known == names.end() ? 0x8183 : 0x8180);
    Put16(reply, 1);
    Put16(reply, count);
    Put16(reply, 0);
    Put16(reply, 0);
    return reply + query.substr(12, offset + 5 - 12) + records;
  }

  uv_udp_t udp_;
  std::array<char, 4096> buffer_;
};

}  // namespace tidegate
