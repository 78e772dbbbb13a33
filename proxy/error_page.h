#pragma once

// Answers that Tidegate makes itself: errors, `respond` and `redirect` routes, OPTIONS at its last
// hop. Each function clears `head`, fills it and returns the body, whose length is in the head.
// For HEAD the caller sends the head as it is and no body. Connection is decided by the caller.
//
// Every answer bears X-Request-Id and Date. Errors also bear Proxy-Status (RFC 9209) and a short
// text; what went wrong in detail is in the log only.

#include <string>
#include <string_view>

#include "common/config.h"
#include "common/error.h"
#include "proxy/http/message.h"

namespace tidegate {

// What an answer says about its request. Copied; must not be views into the head that is filled.
struct AnswerContext {
  // Empty: no X-Request-Id (the request had no head).
  std::string_view request_id;
  // HttpDate.
  std::string_view date;
};

// The status is that of the error's row; a row without one (nobody is left to tell) gives 500.
// `allow`: for 405, the methods that would do (Router::Match::allow). 503 says when to come back:
// at once where another worker or a free connection may be there, later where an endpoint is gone.
std::string MakeErrorAnswer(ErrorKind error, std::string_view allow, const AnswerContext& context,
                            ResponseHead& head);

// The action's own headers replace ours; Content-Type is text/plain unless it has one. 204, 205 and
// 304 have no body.
std::string MakeRespondAnswer(const RespondAction& action, const AnswerContext& context,
                              ResponseHead& head);

// Location is `to` as it is, if it has a path, a query or a fragment of its own. If it ends with
// the authority ("https://example.org"), the request's path and query are appended: that is what a
// redirect of a whole host or scheme means. `target` is the request's; octets that may not stand in
// a URL are percent-encoded.
std::string MakeRedirectAnswer(const RedirectAction& action, std::string_view target,
                               const AnswerContext& context, ResponseHead& head);
// The Location alone.
std::string RedirectLocation(std::string_view to, std::string_view target);

// 204 with Allow: the answer to OPTIONS whose Max-Forwards is used up. An empty `allow` is left
// out: any method will do.
std::string MakeOptionsAnswer(std::string_view allow, const AnswerContext& context,
                              ResponseHead& head);

}  // namespace tidegate
