#pragma once

// What may stand in a configuration as a name, host, path, method or header. Each function returns
// the text as it is kept, or kConfig with "what is wrong; what to write".

#include <cstddef>
#include <string>
#include <string_view>

#include "common/result.h"

namespace tidegate {

inline constexpr std::size_t kMaxNameLength = 255;

// Of a listener, upstream or route: 1 to 255 visible ASCII characters but '"' and '\'. It is a
// label and an argument.
Result<std::string> CheckName(std::string_view text);
// The nearest text that CheckName takes, for names that are made from hosts and paths.
std::string NameFrom(std::string_view text);
// A user of the system; whether there is one is found out when it is needed.
Result<std::string> CheckUser(std::string_view text);
// A host name, an IP address (IPv6 in brackets), or "*." and a host name. In lower case, without a
// port.
Result<std::string> CheckHostPattern(std::string_view text);
// The same without a wildcard: what one server is called.
Result<std::string> CheckServerName(std::string_view text);
// Begins with '/', no query; visible ASCII, because that is what a request target is made of.
Result<std::string> CheckPathPrefix(std::string_view text);
// A token in upper case.
Result<std::string> CheckMethod(std::string_view text);
// A token; as written.
Result<std::string> CheckHeaderName(std::string_view text);
// A header that a rule may change: not what frames a message or belongs to one connection (RFC 9110
// section 7.6.1), and Host only where `host_allowed`.
Result<std::string> CheckHeaderRule(std::string_view text, bool host_allowed);
// A header that may be logged: not one that carries credentials.
Result<std::string> CheckLoggedHeader(std::string_view text);
Result<std::string> CheckHeaderValue(std::string_view text);
// The name of a query parameter as it stands in a URL.
Result<std::string> CheckParameterName(std::string_view text);
// An http or https URL, or a path.
Result<std::string> CheckLocation(std::string_view text);
// The path of a file: any text without NUL.
Result<std::string> CheckFile(std::string_view text);
// "stderr" or a path with a '/'.
Result<std::string> CheckErrorLog(std::string_view text);
// "stdout", "stderr" or a path with a '/'.
Result<std::string> CheckAccessLog(std::string_view text);

}  // namespace tidegate
