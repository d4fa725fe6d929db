// Sums of Gaussians as logarithms, in single precision: for bounds that only exclude. What
// entropy_bounds.py adds to them covers every rounding here. Linked without -ffast-math
// (mlsel/core/native.py); all numbers are finite.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int tile = 16;
#if defined(__AVX512F__)
constexpr int rows = 10; // as many sums as fit in the registers
#else
constexpr int rows = 6;
#endif
constexpr int often = 4;             // tiles, after which the terms that wait are looked at
constexpr int enough = tile * often; // of them, to be summed
constexpr float negligible = 20.0F;  // terms below e^-20 of the greatest are left out

typedef float Loaded __attribute__((vector_size(tile * sizeof(float)), aligned(4), may_alias));
typedef float Floats __attribute__((vector_size(tile * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(tile * sizeof(int32_t))));

/// Puts the values above a limit one after the other, and returns how many they are. There must be
/// room for all.
inline int put_above(const Floats &values, float limit, float *out) {
#if defined(__AVX512F__)
  const __mmask16 above = _mm512_cmp_ps_mask(__m512(values), _mm512_set1_ps(limit), _CMP_GT_OQ);
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(above, __m512(values)));
  return __builtin_popcount(above);
#else
#if defined(__AVX2__)
  __m256 halves[2];
  __builtin_memcpy(halves, &values, sizeof(halves));
  uint32_t above = 0;
  for (int k = 0; k < 2; ++k)
    above |= uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(halves[k], _mm256_set1_ps(limit),
                                                       _CMP_GT_OQ)))
             << (8 * k);
#else
  uint32_t above = 0;
  for (int j = 0; j < tile; ++j)
    above |= uint32_t(values[j] > limit) << j;
#endif
  int n = 0;
  for (; above; above &= above - 1)
    out[n++] = values[__builtin_ctz(above)];
  return n;
#endif
}

/// exp(x) for x <= 0, to 3e-6 of itself; below -80 it is that of -80.
inline Floats exponential(const Floats &x) {
  Floats t = x * 1.44269504F;
  const Floats least = Floats{} - 115.0F;
  t = t > least ? t : least;
  const Integers whole = __builtin_convertvector(t - 0.5F, Integers); // truncates: t is negative
  const Floats f = t - __builtin_convertvector(whole, Floats);
  Floats p = 1.3333558e-3F * f + 9.6181291e-3F; // ln(2)^k / k!
  p = p * f + 5.5504109e-2F;
  p = p * f + 0.24022651F;
  p = p * f + 0.69314718F;
  p = p * f + 1.0F;
  return Floats(Integers(p) + (whole << 23));
}

/// A sum of exponentials: exp(top) times the sum of its parts, and terms that wait to be added.
struct Sum {
  Floats parts;
  float top;
  int n;
  float waiting[2 * enough];

  inline void add_waiting(int n_vectors) {
    float most = top;
    for (int j = 0; j < tile * n_vectors; ++j)
      most = std::max(most, waiting[j]);
    if (most > top)
      parts *= std::exp(std::max(top - most, -80.0F));
    top = most;
    for (int k = 0; k < n_vectors; ++k)
      parts += exponential(*reinterpret_cast<const Loaded *>(waiting + k * tile) - top);
  }

  /// Adds whole vectors of what waits.
  inline void add_some() {
    const int n_vectors = n / tile;
    add_waiting(n_vectors);
    n -= n_vectors * tile;
    std::copy_n(waiting + n_vectors * tile, tile, waiting);
  }

  inline void add_all() {
    const int n_vectors = (n + tile - 1) / tile;
    std::fill(waiting + n, waiting + n_vectors * tile, -1e30F);
    add_waiting(n_vectors);
  }
};

} // namespace

extern "C" {

struct Environments {
  int64_t width;
  const float *points;      // (n, width), in the unit of the bandwidth
  const float *halves;      // (n), half the sums of their squares
  const int64_t *starts;    // (n_frames + 1), of each frame's environments
  float *tops, *sums;       // (n): over the chosen that were seen the sum is exp(top) times this
  const float *tiles;       // (n_tiles, width, 16): those of the chosen frames
  const float *tile_halves; // (n_tiles, 16)
};
// The same members as class _Environments in entropy_bounds.py, which compares places and the size.
extern const int64_t layout_environments[];
const int64_t layout_environments[] = {sizeof(Environments),
                                       offsetof(Environments, width),
                                       offsetof(Environments, points),
                                       offsetof(Environments, halves),
                                       offsetof(Environments, starts),
                                       offsetof(Environments, tops),
                                       offsetof(Environments, sums),
                                       offsetof(Environments, tiles),
                                       offsetof(Environments, tile_halves),
                                       -1};

/// Adds to each environment of some frames the chosen environments from first[k] on, up to `last`;
/// mean and least of the logarithms of frame k go into means[k] and leasts[k].
void add_chosen(const Environments *given, int64_t n, const int64_t *frames, const int64_t *first,
                int64_t last, double *means, double *leasts) {
  const Environments &e = *given;
  const int64_t width = e.width, n_tiles = (last + tile - 1) / tile;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t start = e.starts[frames[k]], end = e.starts[frames[k] + 1];
    Floats seen = {}; // puts those of the first tile that were seen far away
    for (int64_t j = 0; j < first[k] % tile; ++j)
      seen[j] = 1e30F;
    for (int64_t i = start; i < end; i += rows) {
      const float *point[rows];
      float own[rows];
      Sum sums[rows];
      for (int r = 0; r < rows; ++r) {
        const int64_t row = std::min(i + r, end - 1); // the last one again, for nothing
        point[r] = e.points + row * width;
        own[r] = e.halves[row];
        sums[r].top = e.tops[row];
        sums[r].n = 0;
        sums[r].parts = Floats{};
        sums[r].parts[0] = e.sums[row];
      }
      Floats far = seen;
      for (int64_t t = first[k] / tile; t < n_tiles; ++t) {
        const float *x = e.tiles + t * width * tile;
        Floats products[rows] = {};
        for (int64_t d = 0; d < width; ++d) {
          const Floats of_tile = *reinterpret_cast<const Loaded *>(x + d * tile);
          for (int r = 0; r < rows; ++r)
            products[r] += of_tile * point[r][d];
        }
        const Floats half = *reinterpret_cast<const Loaded *>(e.tile_halves + t * tile) + far;
        far = Floats{};
        for (int r = 0; r < rows; ++r)
          sums[r].n += put_above(products[r] - half - own[r], sums[r].top - negligible,
                                 sums[r].waiting + sums[r].n);
        if (t % often == 0)
          for (int r = 0; r < rows; ++r)
            if (sums[r].n >= enough)
              sums[r].add_some();
      }
      for (int r = 0; r < rows && i + r < end; ++r) {
        sums[r].add_all();
        float sum = 0.0F;
        for (int j = 0; j < tile; ++j)
          sum += sums[r].parts[j];
        e.tops[i + r] = sums[r].top;
        e.sums[i + r] = sum;
      }
    }
    double total = 0.0, least = HUGE_VAL;
    for (int64_t i = start; i < end; ++i) {
      const double logarithm = double(e.tops[i]) + std::log(double(e.sums[i]));
      total += logarithm;
      least = std::min(least, logarithm);
    }
    means[k] = total / double(end - start);
    leasts[k] = least;
  }
}
}
