// SPDX-License-Identifier: Apache-2.0
// How the CTAs of a gemv share strips (16 rows), a CTA's passes its strips, and its warps the ring: the same arithmetic
// for launch, kernel and the host's tests.
#pragma once

#include <algorithm>

#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/tile/work.cuh"

namespace comet::cuda {

constexpr int kGemvCtasPerSm = 2;
constexpr int kPassStrips = 4;  // that a CTA computes together, at most
constexpr int kMostSlots = 64;

// The first `more` CTAs have one strip more than `each`, the first passes of a CTA one more than pass_strips. A slot of
// the ring holds slot_strips units. A slot is always the same warp's, which knows how many rounds it is ahead: the
// parity of its barrier would not tell another one. The next kernel may start when every warp has asked for all of its
// slabs but rounds_left: its first ones then come behind this kernel's last, in the time that products and outputs
// take. In its first round slab i is asked for when slab i - window has come.
struct GemvShape {
  int each = 0, more = 0, passes = 0, pass_strips = 0, slot_strips = 0, warps = 0, slots = 0, rounds_left = 0,
      window = 0;
};

// For a ring of ring_units units, of which each warp has two slots at least; ahead_units: that are under way together
// before the kernel in front has ended, about.
inline GemvShape gemv_shape(int n, int ctas, int ring_units, int most_warps, int ahead_units) {
  const int strips = num_strips(n), most = (strips + ctas - 1) / ctas;
  GemvShape g;
  g.each = strips / ctas, g.more = strips % ctas;
  g.passes = (most + kPassStrips - 1) / kPassStrips;
  g.pass_strips = g.each / g.passes;
  g.slot_strips = (most + g.passes - 1) / g.passes;
  const int slots = std::min(ring_units / g.slot_strips, kMostSlots);
  g.warps = std::min(most_warps, slots / 2);
  g.slots = slots / g.warps * g.warps;
  g.rounds_left = g.slot_strips == kPassStrips ? 1 : 2;  // 54 to 100 KB of a CTA of 4-bit weights
  g.window = std::min(g.warps, ahead_units / g.slot_strips + 1);
  return g;
}

// Strips of a CTA's pass.
struct PassStrips {
  int first, count;
};
COMET_HD PassStrips pass_strips(const GemvShape& g, int cta, int pass) {
  const int longer = g.each + (cta < g.more ? 1 : 0) - g.passes * g.pass_strips;  // passes
  return {g.each * cta + lesser(cta, g.more) + g.pass_strips * pass + lesser(pass, longer),
          g.pass_strips + (pass < longer ? 1 : 0)};
}

}  // namespace comet::cuda
