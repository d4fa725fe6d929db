// The edge part of SchNet for training on CPUs.
//
// A continuous-filter convolution over pairs p = (i, j) with distance r_p,
//     y_i += W(r_p) z_j,   y_j += W(r_p) z_i        (one filter for an edge and its mirror),
// its derivative with respect to z and r, and the adjoints of both. W is a table of cubic Hermite
// splines: row k holds the values W(r_k) and the slopes h W'(r_k) of all F features, so that a
// filter costs four multiply-adds where the filter network costs thousands.
//
// Frames share no atoms: each thread takes whole frames, so that no two write to one atom, and
// adds table gradients to a table of its own; these are summed in the order of threads. Hence
// the same number of threads gives the same bits.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include <omp.h>

namespace {

template <typename Real> struct Edges {
  int32_t n_features, n_knots, n_frames, n_threads;
  const int32_t *atom_start; // (n_frames + 1)
  const int32_t *pair_start; // (n_frames + 1)
  const int32_t *first, *second, *knot; // (n_pairs)
  const Real *place;                    // (n_pairs), 0 ... 1 between knot and knot + 1
  Real spacing;
};

// Weights of value k, slope k, value k + 1, slope k + 1 in W and in dW/dr.
template <typename Real> struct Hermite {
  Real value[4], slope[4];
  Hermite(Real t, Real spacing) {
    const Real s = 1 - t, inverse = 1 / spacing;
    value[0] = (1 + 2 * t) * s * s;
    value[1] = t * s * s;
    value[2] = t * t * (3 - 2 * t);
    value[3] = -t * t * s;
    slope[0] = -6 * t * s * inverse;
    slope[1] = s * (1 - 3 * t) * inverse;
    slope[2] = -slope[0];
    slope[3] = t * (3 * t - 2) * inverse;
  }
};

template <typename Real> void clear(const Edges<Real> &e, int frame, Real *rows) {
  const size_t f = e.n_features;
  std::memset(rows + e.atom_start[frame] * f, 0,
              (e.atom_start[frame + 1] - e.atom_start[frame]) * f * sizeof(Real));
}

// The row of atom j to add to. A pair of an atom with its own image has one row for both ends,
// which vectorised code would read twice before it writes: such a pair adds to a spare row.
template <typename Real> class SecondRow {
public:
  SecondRow(Real *spare, int32_t n) : spare(spare), n(n) {}
  Real *begin(Real *rows, int32_t i, int32_t j) {
    target = nullptr;
    if (i != j)
      return rows + static_cast<size_t>(j) * n;
    target = rows + static_cast<size_t>(i) * n;
    std::fill(spare, spare + n, Real(0));
    return spare;
  }
  void end() {
    if (target)
      for (int32_t f = 0; f < n; ++f)
        target[f] += spare[f];
  }

private:
  Real *spare;
  int32_t n;
  Real *target = nullptr;
};

// Spare rows of all threads, no two in one cache line; a thread that allocates cannot tell that it
// failed.
template <typename Real> class SpareRows {
public:
  explicit SpareRows(const Edges<Real> &e)
      : n(e.n_features), stride(n + 64 / sizeof(Real)), rows(stride * e.n_threads) {}
  SecondRow<Real> of_this_thread() { return {rows.data() + stride * omp_get_thread_num(), n}; }

private:
  int32_t n;
  size_t stride;
  std::vector<Real> rows;
};

// Calls body(p, i, j, c, w, oi, oj) for each pair p of each frame: its atoms, its place between two
// knots, the table's rows there, and the rows of `out`, cleared before, that the two atoms add to.
template <typename Real, typename Body>
void over_pairs(const Edges<Real> &e, const Real *table, Real *out, const Body &body) {
  const int32_t n = e.n_features;
  SpareRows<Real> spare(e);
#pragma omp parallel num_threads(e.n_threads)
  {
    SecondRow<Real> second = spare.of_this_thread();
#pragma omp for schedule(static)
    for (int32_t frame = 0; frame < e.n_frames; ++frame) {
      clear(e, frame, out);
      for (int32_t p = e.pair_start[frame]; p < e.pair_start[frame + 1]; ++p) {
        const int32_t i = e.first[p], j = e.second[p];
        const Hermite<Real> c(e.place[p], e.spacing);
        const Real *w = table + static_cast<size_t>(e.knot[p]) * 2 * n;
        body(p, i, j, c, w, out + static_cast<size_t>(i) * n, second.begin(out, i, j));
        second.end();
      }
    }
  }
}

template <typename Real> void convolve(const Edges<Real> &e, const Real *table, const Real *z, Real *y) {
  const int32_t n = e.n_features;
  over_pairs(e, table, y,
             [=](int32_t, int32_t i, int32_t j, const Hermite<Real> &c, const Real *w, Real *yi,
                 Real *yj) {
               const Real *zi = z + static_cast<size_t>(i) * n, *zj = z + static_cast<size_t>(j) * n;
#pragma omp simd
               for (int32_t f = 0; f < n; ++f) {
                 const Real filter = c.value[0] * w[f] + c.value[1] * w[n + f] +
                                     c.value[2] * w[2 * n + f] + c.value[3] * w[3 * n + f];
                 yi[f] += filter * zj[f];
                 yj[f] += filter * zi[f];
               }
             });
}

// From a = dE/dy: b = dE/dz and, added to it, g = dE/dr of each pair.
template <typename Real>
void differentiate(const Edges<Real> &e, const Real *table, const Real *z, const Real *a, Real *b,
                   Real *g) {
  const int32_t n = e.n_features;
  over_pairs(e, table, b,
             [=](int32_t p, int32_t i, int32_t j, const Hermite<Real> &c, const Real *w, Real *bi,
                 Real *bj) {
               const Real *zi = z + static_cast<size_t>(i) * n, *zj = z + static_cast<size_t>(j) * n;
               const Real *ai = a + static_cast<size_t>(i) * n, *aj = a + static_cast<size_t>(j) * n;
               Real sum = 0;
#pragma omp simd reduction(+ : sum)
               for (int32_t f = 0; f < n; ++f) {
                 const Real w0 = w[f], w1 = w[n + f], w2 = w[2 * n + f], w3 = w[3 * n + f];
                 const Real filter =
                     c.value[0] * w0 + c.value[1] * w1 + c.value[2] * w2 + c.value[3] * w3;
                 const Real slope = c.slope[0] * (w0 - w2) + c.slope[1] * w1 + c.slope[3] * w3;
                 bi[f] += filter * aj[f];
                 bj[f] += filter * ai[f];
                 sum += slope * (ai[f] * zj[f] + aj[f] * zi[f]);
               }
               g[p] = sum;
             });
}

// Sums the threads' tables; each thread takes a part of the rows.
template <typename Real>
void reduce(const std::vector<Real> &parts, int n_threads, size_t size, Real *total) {
#pragma omp parallel for num_threads(n_threads) schedule(static)
  for (size_t k = 0; k < size; ++k) {
    Real sum = 0;
    for (int part = 0; part < n_threads; ++part)
      sum += parts[part * size + k];
    total[k] = sum;
  }
}

// Adjoint of convolve: from v = dL/dy, dL/dz and dL/dtable.
template <typename Real>
void convolve_adjoint(const Edges<Real> &e, const Real *table, const Real *z, const Real *v,
                      Real *z_out, Real *table_out) {
  const int32_t n = e.n_features;
  const size_t size = static_cast<size_t>(e.n_knots) * 2 * n;
  std::vector<Real> parts(size * e.n_threads);
  SpareRows<Real> spare(e);
#pragma omp parallel num_threads(e.n_threads)
  {
    SecondRow<Real> second = spare.of_this_thread();
    Real *part = parts.data() + size * omp_get_thread_num();
#pragma omp for schedule(static)
    for (int32_t frame = 0; frame < e.n_frames; ++frame) {
      clear(e, frame, z_out);
      for (int32_t p = e.pair_start[frame]; p < e.pair_start[frame + 1]; ++p) {
        const int32_t i = e.first[p], j = e.second[p];
        const Hermite<Real> c(e.place[p], e.spacing);
        const Real *w = table + static_cast<size_t>(e.knot[p]) * 2 * n;
        Real *d = part + static_cast<size_t>(e.knot[p]) * 2 * n;
        const Real *zi = z + static_cast<size_t>(i) * n, *zj = z + static_cast<size_t>(j) * n;
        const Real *vi = v + static_cast<size_t>(i) * n, *vj = v + static_cast<size_t>(j) * n;
        Real *oi = z_out + static_cast<size_t>(i) * n, *oj = second.begin(z_out, i, j);
#pragma omp simd
        for (int32_t f = 0; f < n; ++f) {
          const Real filter = c.value[0] * w[f] + c.value[1] * w[n + f] + c.value[2] * w[2 * n + f] +
                              c.value[3] * w[3 * n + f];
          oi[f] += filter * vj[f];
          oj[f] += filter * vi[f];
          const Real grad = vi[f] * zj[f] + vj[f] * zi[f];
          d[f] += c.value[0] * grad;
          d[n + f] += c.value[1] * grad;
          d[2 * n + f] += c.value[2] * grad;
          d[3 * n + f] += c.value[3] * grad;
        }
        second.end();
      }
    }
  }
  reduce(parts, e.n_threads, size, table_out);
}

// Adjoint of differentiate: from u = dL/db and h = dL/dg, dL/dz, dL/da and dL/dtable.
template <typename Real>
void differentiate_adjoint(const Edges<Real> &e, const Real *table, const Real *z, const Real *a,
                           const Real *u, const Real *h, Real *z_out, Real *a_out,
                           Real *table_out) {
  const int32_t n = e.n_features;
  const size_t size = static_cast<size_t>(e.n_knots) * 2 * n;
  std::vector<Real> parts(size * e.n_threads);
  SpareRows<Real> spare_z(e), spare_a(e);
#pragma omp parallel num_threads(e.n_threads)
  {
    SecondRow<Real> second_z = spare_z.of_this_thread(), second_a = spare_a.of_this_thread();
    Real *part = parts.data() + size * omp_get_thread_num();
#pragma omp for schedule(static)
    for (int32_t frame = 0; frame < e.n_frames; ++frame) {
      clear(e, frame, z_out);
      clear(e, frame, a_out);
      for (int32_t p = e.pair_start[frame]; p < e.pair_start[frame + 1]; ++p) {
        const int32_t i = e.first[p], j = e.second[p];
        const Hermite<Real> c(e.place[p], e.spacing);
        const Real *w = table + static_cast<size_t>(e.knot[p]) * 2 * n;
        Real *d = part + static_cast<size_t>(e.knot[p]) * 2 * n;
        const Real *zi = z + static_cast<size_t>(i) * n, *zj = z + static_cast<size_t>(j) * n;
        const Real *ai = a + static_cast<size_t>(i) * n, *aj = a + static_cast<size_t>(j) * n;
        const Real *ui = u + static_cast<size_t>(i) * n, *uj = u + static_cast<size_t>(j) * n;
        Real *zo_i = z_out + static_cast<size_t>(i) * n, *zo_j = second_z.begin(z_out, i, j);
        Real *ao_i = a_out + static_cast<size_t>(i) * n, *ao_j = second_a.begin(a_out, i, j);
        const Real hp = h[p];
        const Real s0 = hp * c.slope[0], s1 = hp * c.slope[1], s3 = hp * c.slope[3];
#pragma omp simd
        for (int32_t f = 0; f < n; ++f) {
          const Real w0 = w[f], w1 = w[n + f], w2 = w[2 * n + f], w3 = w[3 * n + f];
          const Real filter = c.value[0] * w0 + c.value[1] * w1 + c.value[2] * w2 + c.value[3] * w3;
          const Real slope = s0 * (w0 - w2) + s1 * w1 + s3 * w3;
          zo_i[f] += slope * aj[f];
          zo_j[f] += slope * ai[f];
          ao_i[f] += filter * uj[f] + slope * zj[f];
          ao_j[f] += filter * ui[f] + slope * zi[f];
          const Real of_filter = ui[f] * aj[f] + uj[f] * ai[f];
          const Real of_slope = ai[f] * zj[f] + aj[f] * zi[f];
          d[f] += c.value[0] * of_filter + s0 * of_slope;
          d[n + f] += c.value[1] * of_filter + s1 * of_slope;
          d[2 * n + f] += c.value[2] * of_filter - s0 * of_slope;
          d[3 * n + f] += c.value[3] * of_filter + s3 * of_slope;
        }
        second_z.end();
        second_a.end();
      }
    }
  }
  reduce(parts, e.n_threads, size, table_out);
}

// Forces from g = dE/dr and the unit vectors from the first atom of a pair to the second.
template <typename Real>
void gather_forces(const Edges<Real> &e, const Real *g, const Real *unit, Real *forces) {
#pragma omp parallel for num_threads(e.n_threads) schedule(static)
  for (int32_t frame = 0; frame < e.n_frames; ++frame) {
    for (int32_t k = 3 * e.atom_start[frame]; k < 3 * e.atom_start[frame + 1]; ++k)
      forces[k] = 0;
    for (int32_t p = e.pair_start[frame]; p < e.pair_start[frame + 1]; ++p)
      for (int32_t k = 0; k < 3; ++k) {
        const Real part = g[p] * unit[3 * p + k];
        forces[3 * e.first[p] + k] += part;
        forces[3 * e.second[p] + k] -= part;
      }
  }
}

template <typename Real>
void gather_forces_adjoint(const Edges<Real> &e, const Real *v, const Real *unit, Real *g_out) {
#pragma omp parallel for num_threads(e.n_threads) schedule(static)
  for (int32_t p = 0; p < e.pair_start[e.n_frames]; ++p) {
    const Real *vi = v + 3 * e.first[p], *vj = v + 3 * e.second[p], *up = unit + 3 * p;
    g_out[p] = up[0] * (vi[0] - vj[0]) + up[1] * (vi[1] - vj[1]) + up[2] * (vi[2] - vj[2]);
  }
}

} // namespace

// Every function gives 0, or 1 where there is no memory.
template <typename Body> int guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::bad_alloc &) {
    return 1;
  }
}

#define MLSEL_EXPORT(Real, suffix)                                                                 \
  extern "C" int convolve_##suffix(const Edges<Real> *e, const Real *table, const Real *z,         \
                                   Real *y) {                                                      \
    return guarded([&] { convolve(*e, table, z, y); });                                            \
  }                                                                                                \
  extern "C" int differentiate_##suffix(const Edges<Real> *e, const Real *table, const Real *z,    \
                                        const Real *a, Real *b, Real *g) {                         \
    return guarded([&] { differentiate(*e, table, z, a, b, g); });                                 \
  }                                                                                                \
  extern "C" int convolve_adjoint_##suffix(const Edges<Real> *e, const Real *table, const Real *z, \
                                           const Real *v, Real *z_out, Real *table_out) {          \
    return guarded([&] { convolve_adjoint(*e, table, z, v, z_out, table_out); });                  \
  }                                                                                                \
  extern "C" int differentiate_adjoint_##suffix(                                                   \
      const Edges<Real> *e, const Real *table, const Real *z, const Real *a, const Real *u,        \
      const Real *h, Real *z_out, Real *a_out, Real *table_out) {                                  \
    return guarded(                                                                                \
        [&] { differentiate_adjoint(*e, table, z, a, u, h, z_out, a_out, table_out); });           \
  }                                                                                                \
  extern "C" int gather_forces_##suffix(const Edges<Real> *e, const Real *g, const Real *unit,     \
                                        Real *forces) {                                            \
    gather_forces(*e, g, unit, forces);                                                            \
    return 0;                                                                                      \
  }                                                                                                \
  extern "C" int gather_forces_adjoint_##suffix(const Edges<Real> *e, const Real *v,               \
                                                const Real *unit, Real *g_out) {                   \
    gather_forces_adjoint(*e, v, unit, g_out);                                                     \
    return 0;                                                                                      \
  }                                                                                                \
  extern "C" {                                                                                     \
  extern const int64_t layout_edges_##suffix[]; /* see mlsel.core.native.check_layout */           \
  const int64_t layout_edges_##suffix[] = {                                                        \
      sizeof(Edges<Real>),                offsetof(Edges<Real>, n_features),                       \
      offsetof(Edges<Real>, n_knots),     offsetof(Edges<Real>, n_frames),                         \
      offsetof(Edges<Real>, n_threads),   offsetof(Edges<Real>, atom_start),                       \
      offsetof(Edges<Real>, pair_start),  offsetof(Edges<Real>, first),                            \
      offsetof(Edges<Real>, second),      offsetof(Edges<Real>, knot),                             \
      offsetof(Edges<Real>, place),       offsetof(Edges<Real>, spacing),                          \
      -1};                                                                                         \
  }

MLSEL_EXPORT(float, float32)
MLSEL_EXPORT(double, float64)
