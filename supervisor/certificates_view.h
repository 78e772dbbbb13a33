#pragma once

// What `cert list` shows to people, from the daemon's data (common/control_messages.h). Fields that
// are missing are left out: client and daemon may be of different versions.

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "supervisor/output.h"

namespace tidegate {

// A line for each certificate, their number, and whether their files are watched. `detailed`: every
// host and the whole issuer.
std::string CertificatesText(const nlohmann::json& data, const Output& output, bool detailed);

// For `status`: hosts, the last day and the days left, those that end first first; empty if there
// are none. Of more than 10 the others are only counted, unless `detailed`.
std::string CertificatesInStatus(const nlohmann::json& status, const Output& output, bool detailed);

}  // namespace tidegate
