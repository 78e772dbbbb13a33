#include "supervisor/status_view.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/confinement_report.h"
#include "common/control_messages.h"
#include "common/text.h"
#include "supervisor/certificates_view.h"
#include "supervisor/hand_over_counts.h"

namespace tidegate {
namespace {

using Json = nlohmann::json;
using Cell = Table::Cell;

const Json& ArrayOf(const Json& object, const char* name) {
  static const Json kEmpty = Json::array();
  auto found = object.find(name);
  return found != object.end() && found->is_array() ? *found : kEmpty;
}

std::string WordOf(const Json& object, const char* name) {
  return Printable(TextOf(object, name));
}

// Empty if there is no such field: a column that nobody fills is not shown.
std::string CountText(const Json& object, const char* name) {
  return object.contains(name) ? fmt::format("{}", NumberOf(object, name)) : std::string();
}

std::string SecondsText(const Json& object, const char* name) {
  return object.contains(name) ? FormatSeconds(SecondsOf(object, name)) : std::string();
}

struct StateTint {
  std::string_view state;
  Tint tint;
};
constexpr std::array kStateTints = {
    StateTint{"serving", Tint::kGood},     StateTint{"ready", Tint::kGood},
    StateTint{"draining", Tint::kWarning}, StateTint{"probation", Tint::kWarning},
    StateTint{"starting", Tint::kBusy},    StateTint{"prepared", Tint::kBusy},
    StateTint{"reloading", Tint::kBusy},   StateTint{"upgrading", Tint::kBusy},
    StateTint{"stopping", Tint::kWarning}, StateTint{"exited", Tint::kBad},
};

Cell StateCell(const Json& object) {
  std::string state = WordOf(object, "state");
  const auto* row = std::ranges::find(kStateTints, state, &StateTint::state);
  return {state, row == kStateTints.end() ? Tint::kNone : row->tint};
}

// "failed 2026-01-02T03:04:05Z: the new worker exited with 1; 1.0.0 serves on"; nothing if all went
// well.
std::string LastFailureText(const Json& status, const Json& last) {
  if (!last.is_object() || NumberOf(last, "exit_code") == 0) {
    return {};
  }
  std::string result = WordOf(last, "result");
  std::ranges::replace(result, '_', ' ');
  return fmt::format("{} {}: {}; {} serves on", result, WordOf(last, "ended"),
                     WordOf(last, "reason"), WordOf(status, "version"));
}

std::string HeadText(const Json& status, const Output& output, bool detailed) {
  Cell state = StateCell(status);
  std::string text =
      fmt::format("{}  {}  generation {}, pid {}, up {}\n",
                  output.Paint(Tint::kStrong, "tidegate " + WordOf(status, "version")),
                  output.Paint(state.tint, state.text), NumberOf(status, "generation"),
                  NumberOf(status, "pid"), FormatSeconds(SecondsOf(status, "uptime_seconds")));
  auto add_line = [&](const std::string& label, const std::string& value) {
    if (!value.empty()) {
      text += fmt::format("  {:<15}{}\n", label, value);
    }
  };
  std::string loaded = WordOf(status, "config_loaded");
  add_line("configuration",
           WordOf(status, "config_file") + (loaded.empty() ? "" : ", read " + loaded));
  if (detailed) {
    add_line("binary", WordOf(status, "binary"));
    add_line("worker binary", WordOf(status, "worker_binary"));
    add_line("socket", WordOf(status, "socket"));
    add_line("started", WordOf(status, "started"));
    add_line("previous", WordOf(status, "previous_version"));
  }
  if (auto last = status.find("last_operation"); last != status.end()) {
    add_line(fmt::format("last {}", WordOf(*last, "operation")), LastFailureText(status, *last));
  }
  for (const Json& problem : ArrayOf(status, "problems")) {
    if (problem.is_string()) {
      text += fmt::format("  {}        {}\n", output.Paint(Tint::kBad, "problem"),
                          Printable(problem.get_ref<const std::string&>()));
    }
  }
  return text;
}

// "12 left, 3 tunnels", how long the oldest has been there, and what has gone to others.
std::string LeftText(const Json& draining) {
  std::string moved = ShortHandOverText(HandOverCountsIn(draining));
  return fmt::format("{} left, {}, oldest {}{}{}", NumberOf(draining, "left"),
                     CountOf(NumberOf(draining, "tunnels"), "tunnel"),
                     FormatSeconds(SecondsOf(draining, "oldest_seconds")),
                     moved.empty() ? "" : "; ", moved);
}

std::string WorkersText(const Json& status, const Output& output) {
  Table table({"GENERATION", "STATE", "VERSION", "SLOT", "PID", "WORKER", "RESTARTS", "UP",
               "REQUESTS", "CONNECTIONS", "TUNNELS", "DRAIN"});
  for (const Json& generation : ArrayOf(status, "generations")) {
    std::vector<Cell> first = {CountText(generation, "number"), StateCell(generation),
                               WordOf(generation, "version")};
    for (const Json& worker : ArrayOf(generation, "workers")) {
      std::vector<Cell> row = std::move(first);
      first = {"", "", ""};
      bool restarted = NumberOf(worker, "restarts") > 0;
      bool draining = worker.contains("draining") && worker["draining"].is_object();
      row.emplace_back(CountText(worker, "slot"));
      row.emplace_back(CountText(worker, "pid"));
      row.push_back(StateCell(worker));
      row.emplace_back(CountText(worker, "restarts"), restarted ? Tint::kWarning : Tint::kNone);
      row.emplace_back(SecondsText(worker, "uptime_seconds"));
      row.emplace_back(CountText(worker, "requests"));
      row.emplace_back(CountText(worker, "connections"));
      row.emplace_back(CountText(worker, "tunnels"));
      row.emplace_back(draining ? LeftText(worker["draining"]) : std::string());
      table.Add(std::move(row));
    }
    if (ArrayOf(generation, "workers").empty()) {
      first.resize(12, Cell(""));
      table.Add(std::move(first));
    }
  }
  return table.empty() ? std::string() : "\n" + table.Format(output);
}

// "generation 3 confined: seccomp, landlock". Where its workers differ, by " / ".
std::string ConfinementLines(const Json& status) {
  std::string text;
  for (const Json& generation : ArrayOf(status, "generations")) {
    std::set<std::string> said;
    for (const Json& worker : ArrayOf(generation, "workers")) {
      auto report = ConfinementReportOf(worker.value("confinement", Json()));
      said.insert(report ? ConfinementText(*report) : "unknown, its version does not say");
    }
    if (!said.empty()) {
      text += fmt::format("generation {} confined: {}\n", NumberOf(generation, "number"),
                          fmt::join(said, " / "));
    }
  }
  return text;
}

std::string Joined(const Json& array) {
  std::string text;
  for (const Json& entry : array) {
    if (entry.is_string()) {
      text += (text.empty() ? "" : ", ") + Printable(entry.get_ref<const std::string&>());
    }
  }
  return text;
}

std::string ListenersText(const Json& status, const Output& output, bool detailed) {
  Table table({"LISTENER", "BIND", "ADDRESSES", "ACCEPT", "SOCKETS"});
  for (const Json& listener : ArrayOf(status, "listeners")) {
    std::string sockets = detailed ? CountText(listener, "sockets") : std::string();
    table.Add({WordOf(listener, "name"), WordOf(listener, "bind"),
               Joined(ArrayOf(listener, "addresses")), WordOf(listener, "accept"), sockets});
  }
  return table.empty() ? std::string() : "\n" + table.Format(output);
}

std::string UpstreamsText(const Json& status, const Output& output) {
  Table table({"UPSTREAM", "ENDPOINT", "STATE", "IN FLIGHT"});
  for (const Json& upstream : ArrayOf(status, "upstreams")) {
    std::string name = WordOf(upstream, "name");
    for (const Json& endpoint : ArrayOf(upstream, "endpoints")) {
      if (endpoint.is_object()) {
        table.Add({name, WordOf(endpoint, "address"), StateCell(endpoint),
                   CountText(endpoint, "in_flight")});
        name.clear();
      }
    }
  }
  return table.empty() ? std::string() : "\n" + table.Format(output);
}

constexpr std::string_view kErrorsPrefix = "errors_";

bool IsZero(const Json& value) {
  return value.is_number() && value.get<double>() == 0;
}

// "Errors: no_route 3, upstream_refused 1": the names that the access log uses. Empty if there are
// none.
std::string ErrorsSummary(const Json& counters) {
  std::string text;
  for (const auto& [name, value] : counters.items()) {
    if (name.starts_with(kErrorsPrefix) && !IsZero(value)) {
      text +=
          fmt::format("{}{} {}", text.empty() ? "errors: " : ", ",
                      Printable(std::string_view(name).substr(kErrorsPrefix.size())), value.dump());
    }
  }
  return text.empty() ? text : text + "\n";
}

// The few that answer "is it working": the others are for -v and --json.
std::string CountersSummary(const Json& counters) {
  auto count = [&](const char* name) { return NumberOf(counters, name); };
  std::string text =
      fmt::format("\n{} (2xx {}, 3xx {}, 4xx {}, 5xx {}), {} open, {} in, {} out\n",
                  CountOf(count("requests_total"), "request"), count("responses_2xx"),
                  count("responses_3xx"), count("responses_4xx"), count("responses_5xx"),
                  CountOf(count("connections_active"), "connection"),
                  FormatOctets(count("bytes_in")), FormatOctets(count("bytes_out")));
  text += ErrorsSummary(counters);
  text += fmt::format("{} ({} failed), {} ({} failed, {} rolled back), {}\n",
                      CountOf(count("reloads_ok"), "reload"), count("reloads_failed"),
                      CountOf(count("upgrades_ok"), "upgrade"), count("upgrades_failed"),
                      count("upgrades_rolled_back"),
                      CountOf(count("worker_restarts"), "worker restart"));
  return text;
}

std::string CountersText(const Json& status, const Output& output, bool detailed) {
  auto counters = status.find("counters");
  if (counters == status.end() || !counters->is_object() || counters->empty()) {
    return {};
  }
  if (!detailed) {
    return CountersSummary(*counters);
  }
  Table table({"COUNTER", "VALUE"});
  for (const auto& [name, value] : counters->items()) {
    if (!name.starts_with(kErrorsPrefix) || !IsZero(value)) {
      table.Add({Printable(name), value.dump()});
    }
  }
  return "\n" + table.Format(output);
}

}  // namespace

std::string StatusText(const Json& status, const Output& output, bool detailed) {
  return HeadText(status, output, detailed) + WorkersText(status, output) +
         ConfinementLines(status) + ListenersText(status, output, detailed) +
         UpstreamsText(status, output) + CertificatesInStatus(status, output, detailed) +
         CountersText(status, output, detailed);
}

bool KeepOnly(Json& status, const std::string& name) {
  Json kept = status;
  bool found = false;
  auto filter = [&](const char* list, auto is_meant) {
    Json matching = Json::array();
    for (const Json& entry : ArrayOf(status, list)) {
      if (is_meant(entry)) {
        matching.push_back(entry);
        found = true;
      }
    }
    if (status.contains(list)) {
      kept[list] = std::move(matching);
    }
  };
  auto has_name = [&](const Json& entry) { return TextOf(entry, "name") == name; };
  filter("generations", [&](const Json& entry) { return CountText(entry, "number") == name; });
  filter("listeners", has_name);
  filter("upstreams", has_name);
  filter("certificates", [&](const Json& entry) {
    const Json& hosts = ArrayOf(entry, "hosts");
    return std::ranges::find(hosts, Json(name)) != hosts.end();
  });
  if (found) {
    status = std::move(kept);
  }
  return found;
}

std::string ConnectionsText(const Json& data, const Output& output) {
  Table table({"ID", "STATE", "AGE", "GENERATION", "SLOT", "PID", "LISTENER", "CLIENT", "IN", "OUT",
               "MOVED"});
  const Json& connections = ArrayOf(data, "connections");
  for (const Json& one : connections) {
    table.Add({WordOf(one, "id"), StateCell(one), SecondsText(one, "age_seconds"),
               CountText(one, "generation"), CountText(one, "slot"), CountText(one, "pid"),
               WordOf(one, "listener"), WordOf(one, "client"),
               FormatOctets(NumberOf(one, "bytes_in")), FormatOctets(NumberOf(one, "bytes_out")),
               NumberOf(one, "hand_overs") == 0 ? std::string() : CountText(one, "hand_overs")});
  }
  std::string text = table.empty() ? std::string() : table.Format(output) + "\n";
  text += CountOf(connections.size(), "connection") + "\n";
  for (const Json& one : ArrayOf(data, "silent_workers")) {
    text += fmt::format(
        "Worker {} of generation {} (pid {}) does not answer; its connections are not listed.\n",
        CountText(one, "slot"), CountText(one, "generation"), CountText(one, "pid"));
  }
  return text;
}

}  // namespace tidegate
