// A worker as the supervisor and the operator see it.

#include <charconv>
#include <ctime>

#include <fmt/format.h>

#include "proxy/worker.h"

namespace tidegate {
namespace {

std::string_view NameOf(Session::State state) {
  switch (state) {
    case Session::State::kHandshake:
      return "handshake";
    case Session::State::kIdle:
      return "idle";
    case Session::State::kRequest:
      return "request";
    case Session::State::kResponse:
      return "response";
    case Session::State::kTunnel:
      return "tunnel";
    case Session::State::kClosing:
      return "closing";
    case Session::State::kParked:
      break;
  }
  return "idle";
}

}  // namespace

Result<std::string> Worker::Query(std::string_view what, std::string_view argument) {
  if (what == "connections") {
    return ConnectionsJson();
  }
  if (what == "upstreams") {
    return UpstreamsJson();
  }
  if (what == "certificates") {
    return services_.snapshot == nullptr
               ? std::string("[]")
               : services_.snapshot->tls().CertificatesJson(std::time(nullptr));
  }
  if (what == "kill_connection") {
    std::uint64_t id = 0;
    std::from_chars(argument.data(), argument.data() + argument.size(), id);
    bool killed = false;
    sessions_.parking().Resume(id);
    sessions_.ForEach([&](Session& session) {
      if (session.id() == id) {
        session.ForceEnd(Error(ErrorKind::kCancelled, "ended by the operator"));
        killed = true;
      }
    });
    return fmt::format("{{\"killed\":{}}}", killed);
  }
  return Fail(ErrorKind::kProtocol, fmt::format("unknown query \"{}\"", what));
}

std::string Worker::ConnectionsJson() {
  std::string out = "[";
  auto add = [&](std::uint64_t id, std::string_view state, const ClientInfo& client,
                 TimePoint opened, std::uint64_t octets_in, std::uint64_t octets_out,
                 std::uint16_t hand_overs) {
    if (out.size() > 1) {
      out += ',';
    }
    double age = static_cast<double>(loop_.now() - opened) / 1000.0;
    out += fmt::format("{{\"id\":{},\"state\":\"{}\",\"client\":", id, state);
    AppendJsonString(client.peer, out);
    out += ",\"listener\":";
    AppendJsonString(client.listener, out);
    out += fmt::format(",\"age_seconds\":{:.3f},\"bytes_in\":{},\"bytes_out\":{}", age, octets_in,
                       octets_out);
    out += hand_overs > 0 ? fmt::format(",\"hand_overs\":{}}}", hand_overs) : "}";
  };
  sessions_.ForEach([&](Session& session) {
    add(session.id(), NameOf(session.state()), session.client(), session.opened(),
        session.octets_in(), session.octets_out(), session.hand_overs());
  });
  sessions_.parking().ForEach([&](const IdleConnection& idle) {
    add(idle.id, NameOf(Session::State::kIdle), idle.client, idle.opened, idle.octets_in,
        idle.octets_out, idle.hand_overs);
  });
  return out + "]";
}

std::string Worker::UpstreamsJson() {
  std::string out = "[";
  if (services_.snapshot != nullptr) {
    for (const auto& [name, upstream] : services_.snapshot->upstreams()) {
      for (const EndpointStatus& endpoint : upstream->Status()) {
        out += out.size() > 1 ? ",{\"upstream\":" : "{\"upstream\":";
        AppendJsonString(name, out);
        out += ",\"endpoint\":";
        AppendJsonString(endpoint.name, out);
        out += fmt::format(",\"in_flight\":{},\"idle\":{},\"failure\":", endpoint.in_flight,
                           endpoint.idle);
        AppendJsonString(endpoint.failure, out);
        out += '}';
      }
    }
  }
  return out + "]";
}

}  // namespace tidegate
