# SPDX-License-Identifier: Apache-2.0
"""Self checks of the model: arithmetic, weights, activations and linears."""

import unittest
from fractions import Fraction

import numpy as np

from activations import Site, max_ratio, quantize_act
from cases_linear import edge_rows, extreme_acts, extreme_weights, random_site, random_weights
from fp32 import F32, NonFiniteError, exp2, fma, hadamard, rne, rne_clamp, to_bf16_bits
from linear import accumulate, linear_w4ax, require_int32
from weights import (
    GROUP,
    check_weights,
    expand_w8,
    group_codes,
    group_parameters,
    pack_nibbles,
    quantize_weights_rtn,
    unpack_nibbles,
    zero_interval,
)


def round_to_f32(exact):
    """The fp32 nearest (ties to even) to a Fraction below the overflow bound."""
    if exact == 0:
        return 0.0
    exponent = max((abs(exact.numerator).bit_length() - exact.denominator.bit_length()) - 25, -149)
    while abs(exact) / Fraction(2) ** exponent >= 2**24:
        exponent += 1
    return float(round(exact / Fraction(2) ** exponent) * Fraction(2) ** exponent)


class Arithmetic(unittest.TestCase):
    def test_fma_rounds_once(self):
        rng = np.random.default_rng(3)
        a, b, c = (rng.standard_normal(3000) * 2.0 ** rng.integers(-75, 60, 3000) for _ in range(3))
        a, b = a.astype(F32), b.astype(F32)
        c = np.where(rng.random(3000) < 0.5, c, -a.astype(np.float64) * b).astype(F32)  # half of them cancel
        got = fma(a, b, c)
        for i in range(len(a)):
            exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
            if abs(exact) < 2**127:
                self.assertEqual(float(got[i]), round_to_f32(exact))

    def test_subnormals_are_kept(self):
        self.assertEqual(F32(2.0**-100) * F32(2.0**-49), F32(2.0**-149))
        self.assertEqual(fma(F32(2.0**-75), F32(2.0**-74), F32(0)), F32(2.0**-149))
        self.assertEqual(to_bf16_bits(F32(2.0**-133)), 1)

    def test_rne(self):
        np.testing.assert_array_equal(rne(np.array([0.5, 1.5, 2.5, -0.5, -1.5], F32)), [0, 2, 2, 0, -2])
        np.testing.assert_array_equal(rne_clamp(np.array([1e30, -1e30, 6.5], F32), -7, 7), [7, -7, 6])

    def test_bf16(self):
        values = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x80000001], np.uint32).view(F32)
        np.testing.assert_array_equal(to_bf16_bits(values), [0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x8000])

    def test_exp2(self):
        x = np.random.default_rng(1).uniform(-126, 127.9, 20000).astype(F32)
        relative = exp2(x).astype(np.float64) / np.exp2(x.astype(np.float64)) - 1
        self.assertLessEqual(np.abs(relative).max(), 1.6e-7)
        falling = np.concatenate([np.linspace(-1, 0, 20001), -(2.0 ** -np.arange(1, 40))]).astype(F32)
        self.assertLessEqual(exp2(falling).max(), 1)
        np.testing.assert_array_equal(exp2(np.arange(-126, 128).astype(F32)), 2.0 ** np.arange(-126, 128))
        below = np.nextafter(F32(-126), F32(-200))
        np.testing.assert_array_equal(exp2(np.array([below, -np.inf, 128, np.inf], F32)), [0, 0, np.inf, np.inf])

    def test_hadamard(self):
        for n in (64, 128, 256):
            matrix = hadamard(np.eye(n, dtype=F32))
            signs = [[(-1) ** (i & j).bit_count() for j in range(n)] for i in range(n)]
            np.testing.assert_array_equal(matrix, np.array(signs) * F32(n**-0.5))
            np.testing.assert_allclose(matrix.astype(np.float64) @ matrix.T, np.eye(n), atol=1e-6)


class Weights(unittest.TestCase):
    def test_all_possible_groups(self):
        low, high = (a.ravel() for a in np.meshgrid(np.arange(-119, 1), np.arange(120), indexing="ij"))
        self.assertEqual(len(low), 14400)
        s1, free, z = group_parameters(low, high)
        self.assertEqual((s1.min(), s1.max()), (1, 16))
        self.assertEqual(np.count_nonzero(free != z), 282)
        w1 = np.arange(-119, 120)
        inside = (w1 >= low[:, None]) & (w1 <= high[:, None])
        error = w1 - (group_codes(w1, s1[:, None], z[:, None]) - z[:, None]) * s1[:, None]
        self.assertTrue((np.abs(2 * error) <= s1[:, None])[inside].all())

    def test_zero_interval(self):
        stated = {9: (1, 14), 10: (3, 12), 11: (4, 11), 12: (5, 10), 13: (6, 9), 14: (6, 9), 15: (7, 8), 16: (8, 8)}
        for s1 in range(1, 17):
            low, high = zero_interval(s1)
            self.assertEqual((low, high), stated.get(s1, (0, 15)))
            for z in range(low, high + 1):
                self.assertTrue(-128 <= (0 - z) * s1 and (15 - z) * s1 <= 127 and 0 <= 128 - z * s1 <= 255)

    def test_nibbles(self):
        codes = np.random.default_rng(0).integers(0, 16, (3, 256))
        np.testing.assert_array_equal(unpack_nibbles(pack_nibbles(codes)), codes)
        np.testing.assert_array_equal(pack_nibbles(np.array([[1, 2, 3, 4]])), [[0x21, 0x43]])

    def test_rtn_stays_within_its_steps(self):
        w = np.random.default_rng(5).standard_normal((9, 384)).astype(F32)
        w[4] = 0
        q = quantize_weights_rtn(w)
        check_weights(q)
        self.assertEqual(q.channel_scale[4], 1)
        step = np.repeat(q.group_scale, GROUP, axis=1)
        error = np.abs(w / q.channel_scale[:, None] - expand_w8(q))
        self.assertTrue((error <= 0.5 + step / 2 + 1e-4).all())

    def test_illegal_groups_are_refused(self):
        good = extreme_weights(1, 128, 3)
        check_weights(good)
        for field, value in (("group_scale", 0), ("group_scale", 17), ("group_zero", 7), ("group_zero", 9)):
            with self.assertRaises(ValueError):
                check_weights(good._replace(**{field: np.full((1, 1), value, np.uint8)}))


def dequantize(acts, n8):
    """float64 values [m, K] in region order."""
    m = np.repeat(acts.multipliers.astype(np.float64), GROUP, axis=1)
    m[:, : n8 * GROUP] = acts.r[:, None]
    return acts.codes * m * acts.sx[:, None], m * acts.sx[:, None]


class ActivationsAndLinears(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(11)

    def test_values_stay_within_half_a_step(self):
        for bits2 in (4, 8):
            for n8 in range(4):
                site, _ = random_site(self.rng, 384, n8, bits2, rotate=False)
                x = (self.rng.standard_normal((8, 384)) * 10.0 ** self.rng.uniform(-3, 3, (8, 384))).astype(F32)
                values, step = dequantize(quantize_act(x, site), n8)
                error = np.abs(values - x[:, site.act_perm])
                self.assertTrue((error <= step * 0.5001).all())

    def test_edge_rows(self):
        site = Site(np.arange(384, dtype=np.int32), n8=1, bits2=4, rotate=False)
        x = edge_rows(self.rng, 384)
        acts = quantize_act(x, site)
        rmax = max_ratio(128, 256, 4)
        self.assertEqual((acts.sx[0], acts.r[0], acts.osum[0]), (0, 1, 0))
        self.assertEqual(acts.r[3], rmax)
        self.assertEqual(acts.multipliers.max(), 17)
        self.assertTrue((acts.sx[9], acts.sx[11]) == (0, 0) and acts.sx[10] > 0)
        self.assertTrue(acts.codes[12, :128].any() and not acts.codes[12, 128:].any())
        self.assertTrue(acts.codes[13, 128:].any() and not acts.codes[13, :128].any())
        np.testing.assert_array_equal(acts.codes[16, 129:256], rne_clamp(x[16, 129:256] / F32(17), -7, 7))
        np.testing.assert_array_equal(acts.codes[17, 256:383], rne_clamp(x[17, 256:383] / F32(17), -7, 7))
        np.testing.assert_array_equal(acts.codes[17, 129:255], rne_clamp(x[17, 129:255], -7, 7))

    def test_rotation_leaves_region_1_alone(self):
        perm = np.arange(256, dtype=np.int32)
        x = self.rng.standard_normal((2, 256)).astype(F32)
        plain = quantize_act(np.concatenate([x[:, :128], hadamard(x[:, 128:])], axis=1), Site(perm, 1, 4, False))
        for a, b in zip(plain, quantize_act(x, Site(perm, 1, 4, True)), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_non_finite_is_refused(self):
        site = Site(np.arange(128, dtype=np.int32), n8=0, bits2=8, rotate=True)
        for bad in (np.nan, np.inf, 3e38):
            with self.assertRaises(NonFiniteError):
                quantize_act(np.full((1, 128), bad, F32), site)

    def test_accumulator_cannot_leave_int32(self):
        for k1, k2 in ((1, 0), (1, 1), (3, 509), (512, 0), (1, 511), (256, 256), (511, 1), (20, 100)):
            for bits2 in (4, 8):
                rmax = max_ratio(k1 * 128, k2 * 128, bits2)
                self.assertGreaterEqual(rmax, 1)
                region2 = (127 if bits2 == 8 else 119) * 128 * 128 * k2
                self.assertLessEqual(rmax * 127 * 128 * 128 * k1 + region2, 2**31 - 1)
                self.assertGreater((rmax + 1) * 127 * 128 * 128 * k1 + region2, 2**31 - 1)
        acts = extreme_acts(512, 1, 4, -1)
        acc = accumulate(acts, expand_w8(extreme_weights(1, 512, 0)), 1)
        self.assertGreater(acc[0, 0], 2**31 - 127 * 128 * 128 - 1)
        with self.assertRaises(OverflowError):
            accumulate(acts._replace(r=acts.r + 1), expand_w8(extreme_weights(1, 512, 0)), 1)
        with self.assertRaises(OverflowError):
            require_int32(np.array([2**31]), "sum")

    def test_linear_is_the_product_of_dequantized_values(self):
        for n8, bits2 in ((0, 4), (0, 8), (1, 4), (2, 8), (3, 4)):
            site, _ = random_site(self.rng, 384, n8, bits2, rotate=True)
            acts = quantize_act(self.rng.standard_normal((5, 384)).astype(F32), site)
            weights = random_weights(self.rng, 7, 384)
            bias = self.rng.standard_normal(7).astype(F32)
            expected = dequantize(acts, n8)[0] @ (expand_w8(weights) * weights.channel_scale[:, None]).T + bias
            np.testing.assert_allclose(linear_w4ax(acts, weights, n8, bias), expected, rtol=1e-5, atol=1e-5)

    def test_offset_form_of_the_weights(self):
        """u8 weights q4 * s1 + (128 - z * s1), minus 128 * osum, give the same accumulator modulo 2^32."""
        site, _ = random_site(self.rng, 384, 1, 4, rotate=True)
        acts = quantize_act(edge_rows(self.rng, 384), site)
        weights = random_weights(self.rng, 7, 384)
        u8 = expand_w8(weights) + 128
        self.assertTrue(((u8 >= 0) & (u8 <= 255)).all())
        factor = np.repeat(acts.multipliers.astype(np.int64), GROUP, axis=1)
        factor[:, :GROUP] = acts.r[:, None]
        offset = (acts.codes * factor) @ u8.T - 128 * acts.osum.astype(np.int64)[:, None]
        np.testing.assert_array_equal(
            (offset & 0xFFFFFFFF).astype(np.uint32).view(np.int32), accumulate(acts, expand_w8(weights), 1)
        )


if __name__ == "__main__":
    unittest.main()
