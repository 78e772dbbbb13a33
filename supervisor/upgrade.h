#pragma once

// The story of one upgrade (DESIGN section 4): a new generation from new programs, and the
// supervisor itself with them. The first half runs in the old image, the second in the new one; the
// process is the same.

#include <memory>
#include <optional>

#include "common/task.h"
#include "supervisor/holdings.h"
#include "supervisor/operation.h"
#include "supervisor/way_back.h"

namespace tidegate {

// Until it is known what came of it: steps 2 to 8, and the way back.
Duration LongestUpgrade(const UpgradeConfig& limits);

// Steps 1 to 4. Returns only if nothing was changed: refused, or nothing to do. Otherwise this
// image ends within.
Task<Outcome> Upgrade(Holdings& holdings, const Operation& operation);

// What the second half ends with.
struct UpgradeEnd {
  // None: the drain goes on, `tail` will answer.
  std::optional<Outcome> outcome;
  std::shared_ptr<Tail> tail;
};
// Steps 5 to 9, in the image that step 4 entered. `state` is what it left for us;
// ReadState(...)["upgrade"] is in it.
Task<UpgradeEnd> ContinueUpgrade(Holdings& holdings, const Operation& operation,
                                 const nlohmann::json& state);
// How step 9 goes, and steps 10 and 11: the end of the old generation. Answers the tail's clients
// and removes it from the holdings.
Task<void> FinishUpgrade(Holdings& holdings, std::shared_ptr<Tail> tail);

// In the old image again: what it answers. Closes what was opened for the upgrade. `because` is not
// empty if the new image did not say itself.
Outcome OutcomeOfReturn(Holdings& holdings, const nlohmann::json& state,
                        const std::string& because);

}  // namespace tidegate
