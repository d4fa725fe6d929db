// Radial descriptors of all atoms of some frames; mlsel/selection/radial.py has the formula, and
// the same sums by array operations. Both do the same arithmetic in the same order, so that they
// give the same bits: hence no fused multiply-add (-ffp-contract=off).

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

namespace {

constexpr int n_terms = 11;

// What neighbours at some distances count: in which shell, and how much there and in the next.
struct Neighbours {
  explicit Neighbours(size_t n) : r2(n), atom(n), shell(n), here(n), next(n) {}
  std::vector<double> r2;
  std::vector<int32_t> atom, shell;
  std::vector<double> here, next;

  void weigh(int32_t n, double to_shells, double to_angle, const double *series) {
    const double *__restrict squared = r2.data();
    int32_t *__restrict in = shell.data();
    double *__restrict there = here.data(), *__restrict after = next.data();
    double terms[n_terms];
    std::copy(series, series + n_terms, terms);
    for (int32_t k = 0; k < n; ++k) {
      const double place = std::sqrt(squared[k]) * to_shells - 0.5;
      const int32_t s = static_cast<int32_t>(place + 1.0);
      const double upper = place - (s - 1);
      const double angle2 = squared[k] * to_angle;
      double cosine = terms[n_terms - 1];
      for (int t = n_terms - 2; t >= 0; --t)
        cosine = cosine * angle2 + terms[t];
      const double weight = cosine * cosine;
      in[k] = s;
      after[k] = upper * weight;
      there[k] = (1.0 - upper) * weight;
    }
  }
};

} // namespace

extern "C" {

struct Radial {
  int32_t n_frames, n_atoms, n_kinds, n_shells;
  int32_t n_images[3], periodic[3];
  double cutoff, to_shells, to_angle; // shells per Å; -(pi / (2 cutoff))^2
  const double *series;               // (n_terms) of the cosine in -(angle^2)
  const double *fractional;           // (3, n_frames, n_atoms)
  const double *cells;                // (n_frames, 3, 3)
  const int32_t *kind;                // (n_atoms)
  float *out;                         // (n_frames, n_atoms, n_kinds, n_shells)
};

/// 0, or 1 where there is no memory.
int radial(const Radial *given) try {
  const Radial &g = *given;
  const int32_t n = g.n_atoms, width = g.n_shells + 2; // a shell to spare at both ends
  const size_t of_atom = static_cast<size_t>(g.n_kinds) * width;
  const double cutoff2 = g.cutoff * g.cutoff;
  std::vector<double> r2(n), counts(n * of_atom), total(n * of_atom);
  Neighbours near(n);
  for (int32_t frame = 0; frame < g.n_frames; ++frame) {
    std::fill(total.begin(), total.end(), 0.0);
    const double *c = g.cells + 9 * static_cast<size_t>(frame);
    const double *at[3];
    for (int a = 0; a < 3; ++a)
      at[a] = g.fractional + (static_cast<size_t>(a) * g.n_frames + frame) * n;
    double shift[3];
    const int32_t *m = g.n_images;
    const int32_t n_shifts = (2 * m[0] + 1) * (2 * m[1] + 1) * (2 * m[2] + 1);
    for (int32_t s = 0; s < n_shifts; ++s) {
      shift[2] = s % (2 * m[2] + 1) - m[2];
      shift[1] = s / (2 * m[2] + 1) % (2 * m[1] + 1) - m[1];
      shift[0] = s / (2 * m[2] + 1) / (2 * m[1] + 1) - m[0];
      std::fill(counts.begin(), counts.end(), 0.0);
      const bool same_cell = 2 * s + 1 == n_shifts;
      for (int32_t i = 0; i < n; ++i) {
        const int32_t first = same_cell ? i + 1 : i;
        const double x0 = at[0][i], x1 = at[1][i], x2 = at[2][i];
        for (int32_t j = first; j < n; ++j) {
          double d0 = x0 - at[0][j], d1 = x1 - at[1][j], d2 = x2 - at[2][j];
          d0 = d0 - std::rint(d0) * g.periodic[0] + shift[0];
          d1 = d1 - std::rint(d1) * g.periodic[1] + shift[1];
          d2 = d2 - std::rint(d2) * g.periodic[2] + shift[2];
          const double x = d0 * c[0] + d1 * c[3] + d2 * c[6];
          const double y = d0 * c[1] + d1 * c[4] + d2 * c[7];
          const double z = d0 * c[2] + d1 * c[5] + d2 * c[8];
          r2[j] = x * x + y * y + z * z;
        }
        int32_t n_near = 0;
        for (int32_t j = first; j < n; ++j) {
          near.atom[n_near] = j;
          near.r2[n_near] = r2[j];
          n_near += (r2[j] < cutoff2) & (r2[j] > 1e-6);
        }
        near.weigh(n_near, g.to_shells, g.to_angle, g.series);
        for (int32_t k = 0; k < n_near; ++k) {
          const int32_t j = near.atom[k];
          double *of_i = counts.data() + i * of_atom + g.kind[j] * width + near.shell[k];
          of_i[0] += near.here[k];
          of_i[1] += near.next[k];
          if (j == i)
            continue; // its own image: each of the two is met
          double *of_j = counts.data() + j * of_atom + g.kind[i] * width + near.shell[k];
          of_j[0] += near.here[k];
          of_j[1] += near.next[k];
        }
      }
      for (size_t k = 0; k < total.size(); ++k)
        total[k] += counts[k];
    }
    float *out = g.out + static_cast<size_t>(frame) * n * g.n_kinds * g.n_shells;
    for (size_t row = 0; row < static_cast<size_t>(n) * g.n_kinds; ++row)
      for (int32_t k = 0; k < g.n_shells; ++k)
        *out++ = static_cast<float>(total[row * width + 1 + k]);
  }
  return 0;
} catch (const std::exception &) {
  return 1;
}

// see mlsel.core.native.check_layout
extern const int64_t layout_radial[];
const int64_t layout_radial[] = {
    sizeof(Radial),
    offsetof(Radial, n_frames),
    offsetof(Radial, n_atoms),
    offsetof(Radial, n_kinds),
    offsetof(Radial, n_shells),
    offsetof(Radial, n_images),
    offsetof(Radial, periodic),
    offsetof(Radial, cutoff),
    offsetof(Radial, to_shells),
    offsetof(Radial, to_angle),
    offsetof(Radial, series),
    offsetof(Radial, fractional),
    offsetof(Radial, cells),
    offsetof(Radial, kind),
    offsetof(Radial, out),
    -1};
}
