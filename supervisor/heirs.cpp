#include "supervisor/heirs.h"

namespace tidegate {

std::optional<unsigned> HeirOf(unsigned slot, std::span<const unsigned> serving, unsigned workers) {
  if (!serving.empty()) {
    return serving[slot % serving.size()];
  }
  return workers == 0 ? std::nullopt : std::optional<unsigned>(slot % workers);
}

}  // namespace tidegate
