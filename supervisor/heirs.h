#pragma once

// Which worker of a new generation gets the connections of which worker of an old one.

#include <optional>
#include <span>

namespace tidegate {

// The heir of the old generation's worker `slot`: the slot-th of those that serve, and round again,
// so several may have the same one. `serving`: slots of the new generation's workers that serve, in
// order; if none does now, it is one of its `workers` that will be started again. None: it has no
// workers at all.
std::optional<unsigned> HeirOf(unsigned slot, std::span<const unsigned> serving, unsigned workers);

}  // namespace tidegate
