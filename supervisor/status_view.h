#pragma once

// What `status` and `conns` show to people, from the daemon's data (common/control_messages.h).
// Fields that are missing are left out: client and daemon may be of different versions.

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "supervisor/output.h"

namespace tidegate {

// Ends with a newline. `detailed`: every counter but of errors that did not happen, and where
// things are.
std::string StatusText(const nlohmann::json& status, const Output& output, bool detailed);
// Leaves only the listeners and upstreams of this name, the certificates of this host and the
// generation of this number; false, and nothing changed, if there is none.
bool KeepOnly(nlohmann::json& status, const std::string& name);

// A line for each connection and their number.
std::string ConnectionsText(const nlohmann::json& data, const Output& output);

}  // namespace tidegate
