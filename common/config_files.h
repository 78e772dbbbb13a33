#pragma once

// The files that a configuration names, or means, and that workers cannot open: certificates and
// keys, OCSP responses, and who vouches for whom. What they say is a part of the configuration from
// here on.

#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/config_diagnostics.h"
#include "common/config_load.h"
#include "common/json_reader.h"
#include "common/result.h"

namespace tidegate {

// Fills in the contents of the files of `config`, which was read from `root`, and makes their paths
// absolute: a relative one is relative to the file that has it. Faults: a file that cannot be read
// or has no PEM of its kind, a key with a pass phrase. A key that everybody may read is a warning.
// Whether certificate and key fit is the worker's to say.
//
// Where an upstream verifies and names nobody to trust, the system's certificates are read: from
// SSL_CERT_FILE of `environment`, or where the distributions keep them. A fault if there are none.
void ReadNamedFiles(const JsonNode& root, const Environment& environment, Config& config,
                    Diagnostics& diagnostics);

// Reads the files that `config` names, which ReadNamedFiles has filled in, again: the same
// configuration with what stands in them now. Error: kConfig, every file at fault, one a line.
Result<Config> RereadNamedFiles(const Config& config);
// Their paths, each once, in the order of the configuration.
std::vector<std::string> NamedFilesOf(const Config& config);

// The blocks of `text` whose label ends with `label` ("CERTIFICATE", "PRIVATE KEY"), from
// "-----BEGIN" to the end of the line of "-----END" (RFC 7468), without what stands between them.
// All of it is ASCII. Error: kConfig, where a block has no end or is no text: a file that is just
// being written, or damaged, must not lose a part of its chain without a word.
Result<std::string> PemBlocks(std::string_view text, std::string_view label);

}  // namespace tidegate
