// The covariances that a GAP is fitted from: of energies, forces and virials with sparse points.
// For Python's ctypes; see mlsel/training/gap/covariances.py.
//
// SOAP's expansion, its power spectrum and their slopes are the evaluator's. What it need not form,
// the gradient of the power spectrum, is formed here for one atom at a time: its products with all
// sparse points are one product of matrices. Of a neighbour's gradient only those products of
// channels are kept that have a channel of its species.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../plugins/src/buffer.h"
#include "../../plugins/src/gap_channels.h"
#include "../../plugins/src/gap_descriptor.h"
#include "../../plugins/src/gap_potential.h"
#include "../../plugins/src/gap_soap.h"
#include "../../plugins/src/gap_table.h"
#include "../../plugins/src/kernels.h"

namespace mlsel {
namespace {

constexpr double SAME_PLACE = 1e-10;    // Å

int round_up(int n, int step) { return (n + step - 1) / step * step; }

/// A frame's rows of the linear system, each with a number for every sparse point: its energy, its
/// derivatives by the atoms' x, y and z, and those by the strain, xx, yx, zx, yy, zy and zz, null
/// where they are not wanted.
struct Rows {
  double *energy, *positions, *strain;
  int n_columns;

  double *of_atom(int atom, int axis) const
  {
    return positions + (3 * static_cast<size_t>(atom) + axis) * n_columns;
  }
};

/// A term's columns of these.
struct Columns {
  const Rows &rows;
  int first, n;

  /// A pair from atom i to atom j, at `vector` from it, adds `slopes` to the derivative of j by an
  /// axis.
  void add(int i, int j, const double *vector, int axis, const double *slopes) const
  {
    double *__restrict at_j = rows.of_atom(j, axis) + first;
    for (int s = 0; s < n; s++) at_j[s] += slopes[s];
    double *__restrict at_i = rows.of_atom(i, axis) + first;
    for (int s = 0; s < n; s++) at_i[s] -= slopes[s];
    if (!rows.strain) return;
    for (int other = axis, row = axis * 3 - axis * (axis - 1) / 2; other < 3; other++, row++) {
      double *__restrict out = rows.strain + static_cast<size_t>(row) * rows.n_columns + first;
      for (int s = 0; s < n; s++) out[s] += vector[other] * slopes[s];
    }
  }
};

class Term {
 public:
  virtual ~Term() = default;
  virtual bool is_centre(int number) const = 0;
  virtual int n_dimensions() const = 0;
  virtual void set_points(int n, const double *points, const double *cutoffs) = 0;

  /// Descriptors of a block's central atoms, as QUIP has them, one behind the other.
  virtual void describe(const GapEnvironments &, const int *numbers, double *out) = 0;
  virtual void add(const GapEnvironments &, const int *numbers, const Columns &) = 0;

  int n_points = 0;
};

class SoapColumns : public Term {
 public:
  SoapColumns(SoapTerm term, double zeta, double delta);

  bool is_centre(int number) const override { return soap_.is_centre(number); }
  int n_dimensions() const override { return layout_.n_power + 1; }
  void set_points(int n, const double *points, const double *cutoffs) override;
  void describe(const GapEnvironments &, const int *numbers, double *out) override;
  void add(const GapEnvironments &, const int *numbers, const Columns &) override;

 private:
  /// A product of two channels, at least one of them of a species: `of` counts within it.
  struct Product {
    int place;        // in a triangle
    int of, with;     // M[of][with]
    int also, too;    // and M[also][too] where both are of the species; −1: they aren't
  };

  void pack(Buffer<double> &to, int n_rows, const std::vector<double> &points,
            const std::vector<int> &rows) const;
  void solid_gradients(int atom);
  void power_gradients(int atom, int begin, int end, int species, double *rows);
  double power_weight(int l, bool is_once) const
  {
    return layout_.weight[l] * (is_once ? 1 : 2);
  }

  SoapTerm term_;
  const GapKernel &kernel_;
  GapSoap soap_;
  const SoapLayout &layout_;
  double zeta_, variance_;
  int n_triangle_, stride_ = 0;    // of a row of numbers for all points
  std::vector<std::vector<Product>> products_;    // by species
  std::vector<double> constants_, cutoffs_, weights_;    // weights: of a power spectrum's numbers
  Buffer<double> points_;                     // n_power rows, in strips
  std::vector<Buffer<double>> points_of_;     // by species: the rows of its products

  SoapWorkspace work_;
  std::vector<double> unit_, ones_, zeros_, gradients_, channels_, product_, weighted_, own_;
  std::vector<int> no_species_;
  Buffer<double> dots_, rows_, slopes_;
  std::vector<double> by_cosine_, by_length_, row_;
};

SoapTerm checked(SoapTerm term)
{
  if (!SoapChannels(term).is_plain)
    throw std::runtime_error("a compressed SOAP is not fitted by mlsel");
  term.n_sparse = 0;
  return term;
}

SoapColumns::SoapColumns(SoapTerm term, double zeta, double delta)
    : term_(checked(std::move(term))),
      kernel_(choose_kernel<GapKernel>(MLSEL_KERNELS(gap_kernel))), soap_(term_, kernel_),
      layout_(soap_.layout()), zeta_(zeta), variance_(delta * delta)
{
  const int n = layout_.n_channels, n_max = layout_.n_max;
  n_triangle_ = n * (n + 1) / 2;
  products_.resize(layout_.n_species);
  points_of_.resize(layout_.n_species);
  for (int s = 0; s < layout_.n_species; s++)
    for (int a = 0, place = 0; a < n; a++)
      for (int b = 0; b <= a; b++, place++) {
        const bool is_a = a / n_max == s, is_b = b / n_max == s;
        if (is_a && is_b)
          products_[s].push_back({place, a - s * n_max, b, b - s * n_max, a});
        else if (is_a)
          products_[s].push_back({place, a - s * n_max, b, -1, 0});
        else if (is_b)
          products_[s].push_back({place, b - s * n_max, a, -1, 0});
      }
  for (int l = 0; l <= layout_.l_max; l++)
    for (int a = 0; a < n; a++)
      for (int b = 0; b <= a; b++) weights_.push_back(power_weight(l, a == b));
  // for the gradients of solid harmonics: one radial function, 1, of one species
  unit_.assign(layout_.n_lm, 0.0);
}

/// Columns are points, rows those numbers of the power spectrum that are wanted.
void SoapColumns::pack(Buffer<double> &to, int n_rows, const std::vector<double> &points,
                       const std::vector<int> &rows) const
{
  double *packed = to.need(static_cast<size_t>(stride_) * n_rows);
  for (int strip = 0; strip < stride_; strip += GAP_STRIP)
    for (int row = 0; row < n_rows; row++)
      for (int s = strip; s < strip + GAP_STRIP; s++)
        *packed++ = s < n_points ? points[static_cast<size_t>(s) * layout_.n_power + rows[row]] : 0;
}

void SoapColumns::set_points(int n, const double *points, const double *cutoffs)
{
  n_points = n;
  stride_ = round_up(n, GAP_STRIP);
  const int n_l = layout_.l_max + 1, n_power = layout_.n_power;
  std::vector<double> weighted(static_cast<size_t>(n) * n_power);
  constants_.clear();
  cutoffs_.assign(cutoffs, cutoffs + n);
  for (int s = 0; s < n; s++) {
    const double *from = points + static_cast<size_t>(s) * n_dimensions();
    double *to = &weighted[static_cast<size_t>(s) * n_power];
    for (int pair = 0; pair < n_triangle_; pair++)
      for (int l = 0; l < n_l; l++) {
        const int k = l * n_triangle_ + pair;
        to[k] = *from++ * std::sqrt(weights_[k]);
      }
    constants_.push_back(*from * term_.covariance_sigma0);
  }
  std::vector<int> all(n_power);
  std::iota(all.begin(), all.end(), 0);
  pack(points_, n_power, weighted, all);
  for (int species = 0; species < layout_.n_species; species++) {
    std::vector<int> rows;
    for (int l = 0; l < n_l; l++)
      for (const Product &one : products_[species]) rows.push_back(l * n_triangle_ + one.place);
    pack(points_of_[species], static_cast<int>(rows.size()), weighted, rows);
  }
}

void SoapColumns::describe(const GapEnvironments &block, const int *numbers, double *out)
{
  soap_.describe(block, numbers, work_);
  for (size_t k = 0; k < block.atoms.size(); k++) {
    const double *power = soap_.power_of(work_, static_cast<int>(k));
    for (int pair = 0; pair < n_triangle_; pair++)
      for (int l = 0; l <= layout_.l_max; l++) {
        const int at = l * n_triangle_ + pair;
        *out++ = power[at] * std::sqrt(weights_[at]) * work_.scales[k];
      }
    *out++ = term_.covariance_sigma0;
  }
}

/// ∂(r^l Y_lm) of an atom's neighbours: the kernel's gradient of a single radial function, 1.
void SoapColumns::solid_gradients(int atom)
{
  const int at = work_.starts[atom], n = work_.starts[atom + 1] - at, lanes = kernel_.lanes;
  SoapLayout one = layout_;
  one.n_max = one.stride = one.n_channels = 1;
  ones_.assign(static_cast<size_t>(layout_.l_max + 1) * n, 1.0);
  zeros_.assign(static_cast<size_t>(layout_.l_max + 1) * n, 0.0);
  no_species_.assign(n / lanes, 0);
  gradients_.resize(static_cast<size_t>(layout_.n_lm) * 3 * n);
  const SoapNeighbours near = {n / lanes,
                               no_species_.data(),
                               work_.x.data() + at,
                               work_.y.data() + at,
                               work_.z.data() + at,
                               work_.inverse_r.data() + at,
                               work_.cutoff.data() + at,
                               work_.cutoff_slope.data() + at,
                               work_.knot.data() + at,
                               work_.place.data() + at};
  const SoapExpansion from = {work_.harmonics.get() + static_cast<size_t>(at) * layout_.n_lm,
                              ones_.data(), zeros_.data()};
  for (int lm = 0; lm < layout_.n_lm; lm++) {
    unit_[lm] = 1;
    double *gx = &gradients_[static_cast<size_t>(lm) * 3 * n];
    kernel_.gradient(one, near, from, unit_.data(), gx, gx + n, gx + 2 * static_cast<size_t>(n));
    unit_[lm] = 0;
  }
}

/// Derivatives by x, y and z of lanes begin … end − 1, neighbours of one species: of the products
/// of channels in which it is, three rows a lane.
void SoapColumns::power_gradients(int atom, int begin, int end, int species, double *rows)
{
  const int at = work_.starts[atom], n = work_.starts[atom + 1] - at, lanes = kernel_.lanes;
  const int n_max = layout_.n_max, stride = layout_.stride, n_lm = layout_.n_lm;
  const size_t n_radial = static_cast<size_t>(layout_.l_max + 1) * n_max;
  const double *c = work_.coefficients.get() + static_cast<size_t>(atom) * n_lm * stride;
  channels_.resize(static_cast<size_t>(n_max));
  product_.resize(static_cast<size_t>(n_max) * stride);
  const std::vector<Product> &products = products_[species];
  for (int i = begin; i < end; i++) {
    const size_t base = at + i / lanes * lanes;
    const int lane = i % lanes;
    const double *harmonics = work_.harmonics.get() + base * n_lm + lane;
    const double *radial = work_.radial.get() + base * n_radial + lane;
    const double *slopes = work_.slopes.get() + base * n_radial + lane;
    const double inverse_r = work_.inverse_r[at + i];
    const double along[3] = {work_.x[at + i] * inverse_r, work_.y[at + i] * inverse_r,
                             work_.z[at + i] * inverse_r};
    for (int axis = 0; axis < 3; axis++)
      for (int l = 0; l <= layout_.l_max; l++) {
        std::fill(product_.begin(), product_.end(), 0.0);
        for (int lm = l * l; lm < (l + 1) * (l + 1); lm++) {
          const double outward = along[axis] * harmonics[lm * lanes];
          const double turn = gradients_[(static_cast<size_t>(lm) * 3 + axis) * n + i];
          const double *row = c + lm * stride;
          for (int k = 0; k < n_max; k++) {
            const double value = slopes[(l * n_max + k) * lanes] * outward +
                radial[(l * n_max + k) * lanes] * turn;
            double *__restrict out = &product_[static_cast<size_t>(k) * stride];
            for (int b = 0; b < stride; b++) out[b] += value * row[b];
          }
        }
        for (const Product &one : products) {
          double sum = product_[static_cast<size_t>(one.of) * stride + one.with];
          if (one.also >= 0) sum += product_[static_cast<size_t>(one.also) * stride + one.too];
          *rows++ = sum;
        }
      }
  }
}

void SoapColumns::add(const GapEnvironments &block, const int *numbers, const Columns &to)
{
  soap_.describe(block, numbers, work_);
  const int n_atoms = static_cast<int>(block.atoms.size()), n_l = layout_.l_max + 1;
  const long power_stride = soap_.power_of(work_, 1) - soap_.power_of(work_, 0);
  double *dots = dots_.need(static_cast<size_t>(n_atoms) * stride_);
  kernel_.product(n_atoms, layout_.n_power, n_points, soap_.power_of(work_, 0),
                  static_cast<int>(power_stride), points_.get(), dots, stride_);
  by_cosine_.resize(n_points);
  by_length_.resize(n_points);
  row_.resize(n_points);
  double *energy = to.rows.energy + to.first;
  for (int k = 0; k < n_atoms; k++) {
    const double scale = work_.scales[k];
    for (int s = 0; s < n_points; s++) {
      const double cosine = dots[static_cast<size_t>(k) * stride_ + s] * scale;
      const double argument = cosine + constants_[s], factor = variance_ * cutoffs_[s];
      const double other =
          zeta_ == 4.0 ? argument * argument * argument : std::pow(argument, zeta_ - 1);
      energy[s] += factor * other * argument;
      by_cosine_[s] = factor * zeta_ * other * scale;
      by_length_[s] = term_.is_normalised ? by_cosine_[s] * cosine * scale : 0.0;
    }
    const int at = work_.starts[k], n = work_.starts[k + 1] - at;
    if (!n) continue;
    solid_gradients(k);
    const double *power = soap_.power_of(work_, k);
    for (int begin = 0, end; begin < n; begin = end) {
      const int species = work_.species[(at + begin) / kernel_.lanes];
      end = begin;
      while (end < n && work_.species[(at + end) / kernel_.lanes] == species) end += kernel_.lanes;
      int last = end;    // the last lanes of a species may stand for nobody
      while (work_.pair[at + last - 1] < 0) last--;
      const std::vector<Product> &products = products_[species];
      const int n_in = n_l * static_cast<int>(products.size()), n_rows = 3 * (last - begin);
      double *rows = rows_.need(static_cast<size_t>(n_rows) * n_in);
      double *slopes = slopes_.need(static_cast<size_t>(n_rows) * stride_);
      power_gradients(k, begin, last, species, rows);
      kernel_.product(n_rows, n_in, n_points, rows, n_in, points_of_[species].get(), slopes,
                      stride_);
      own_.clear();
      for (int l = 0; l < n_l; l++)
        for (const Product &one : products) {
          const int place = l * n_triangle_ + one.place;
          own_.push_back(power[place] * weights_[place]);
        }
      for (int row = 0; row < n_rows; row++) {
        const int pair = work_.pair[at + begin + row / 3];
        const double *gradient = rows + static_cast<size_t>(row) * n_in;
        double longer = 0;    // half the derivative of the squared length
        for (int i = 0; i < n_in; i++) longer += gradient[i] * own_[i];
        double *slope = slopes + static_cast<size_t>(row) * stride_;
        for (int s = 0; s < n_points; s++)
          row_[s] = by_cosine_[s] * slope[s] - by_length_[s] * longer;
        to.add(block.atoms[k], block.neighbours[pair],
               &block.vectors[3 * static_cast<size_t>(pair)], row % 3, row_.data());
      }
    }
  }
}

/// A distance_2b with the squared exponential.
class PairColumns : public Term {
 public:
  PairColumns(PairTerm term, double theta, double delta)
      : term_(std::move(term)), theta_(theta), variance_(delta * delta * term_.share)
  {
  }

  bool is_centre(int number) const override
  {
    return is(number, term_.z1) || is(number, term_.z2);
  }
  int n_dimensions() const override { return 1; }

  void set_points(int n, const double *points, const double *cutoffs) override
  {
    n_points = n;
    points_.assign(points, points + n);
    cutoffs_.assign(cutoffs, cutoffs + n);
  }

  void describe(const GapEnvironments &, const int *, double *) override
  {
    throw std::runtime_error("a pair's descriptor is its distance");
  }

  void add(const GapEnvironments &block, const int *numbers, const Columns &to) override
  {
    slopes_.resize(n_points);
    row_.resize(n_points);
    double *energy = to.rows.energy + to.first;
    const double inverse = 1 / (theta_ * theta_);
    for (size_t k = 0; k < block.atoms.size(); k++)
      for (int pair = block.first[k]; pair < block.first[k + 1]; pair++) {
        const int j = block.neighbours[pair];
        const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
        const double square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
        if (!belongs(block.atomic_number, numbers[j]) || !(square < term_.cutoff * term_.cutoff))
          continue;
        if (square < SAME_PLACE * SAME_PLACE)
          throw std::runtime_error("two atoms are at the same place");
        const double r = std::sqrt(square);
        double df = 0;
        const double f = cutoff_function(r, term_.cutoff, term_.transition_width, df);
        for (int s = 0; s < n_points; s++) {
          const double d = r - points_[s];
          const double value = variance_ * cutoffs_[s] * std::exp(-0.5 * d * d * inverse);
          energy[s] += f * value;
          slopes_[s] = (df - f * d * inverse) * value / r;
        }
        for (int axis = 0; axis < 3; axis++) {
          for (int s = 0; s < n_points; s++) row_[s] = slopes_[s] * v[axis];
          to.add(block.atoms[k], j, v, axis, row_.data());
        }
      }
  }

 private:
  static bool is(int number, int wanted) { return wanted == ANY_ELEMENT || number == wanted; }
  bool belongs(int a, int b) const
  {
    return (is(a, term_.z1) && is(b, term_.z2)) || (is(a, term_.z2) && is(b, term_.z1));
  }

  PairTerm term_;
  double theta_, variance_;
  std::vector<double> points_, cutoffs_, slopes_, row_;
};

/// The terms of a GAP to be fitted.
struct Fit {
  std::vector<std::unique_ptr<Term>> terms;
  GapEnvironments block;

  int n_columns() const
  {
    int n = 0;
    for (const auto &term : terms) n += term->n_points;
    return n;
  }
};

/// Call work and return 0; 1, with the reason in `message`, where it throws.
template <typename Work> int guarded(char *message, int size, Work work)
{
  try {
    work();
    return 0;
  } catch (const std::exception &error) {
    std::snprintf(message, size, "%s", error.what());
    return 1;
  }
}

}    // namespace
}    // namespace mlsel

#define MLSEL_EXPORT __attribute__((visibility("default")))

extern "C" {

MLSEL_EXPORT void *mlsel_fit_open() { return new mlsel::Fit; }

MLSEL_EXPORT void mlsel_fit_close(void *handle) { delete static_cast<mlsel::Fit *>(handle); }

/// A term by its descriptor's line, with its kernel's parameters; `n_dimensions` of its descriptor.
MLSEL_EXPORT int mlsel_fit_add(void *handle, const char *line, long version, double theta,
                               double zeta, double delta, int *n_dimensions, char *message,
                               int size)
{
  return mlsel::guarded(message, size, [&] {
    auto &terms = static_cast<mlsel::Fit *>(handle)->terms;
    if (mlsel::descriptor_name(line) == "soap")
      terms.push_back(std::make_unique<mlsel::SoapColumns>(mlsel::read_soap("", line, version),
                                                           zeta, delta));
    else
      terms.push_back(std::make_unique<mlsel::PairColumns>(mlsel::read_pair("", line, version),
                                                           theta, delta));
    *n_dimensions = terms.back()->n_dimensions();
  });
}

/// Sparse points, n × dimensions, and their cutoff functions.
MLSEL_EXPORT int mlsel_fit_points(void *handle, int term, int n, const double *points,
                                  const double *cutoffs, char *message, int size)
{
  return mlsel::guarded(message, size, [&] {
    static_cast<mlsel::Fit *>(handle)->terms.at(term)->set_points(n, points, cutoffs);
  });
}

/// Descriptors of a term's central atoms, in the order of atoms. Neighbours of atom i are those
/// from first[i] to first[i + 1].
MLSEL_EXPORT int mlsel_fit_describe(void *handle, int term, int n_atoms, const int *numbers,
                                    const int *first, const int *neighbours, const double *vectors,
                                    double *out, char *message, int size)
{
  return mlsel::guarded(message, size, [&] {
    auto &fit = *static_cast<mlsel::Fit *>(handle);
    mlsel::Term &one = *fit.terms.at(term);
    each_block(fit.block, n_atoms, numbers, first, neighbours, vectors, [&] {
      if (!one.is_centre(fit.block.atomic_number)) return;
      one.describe(fit.block, numbers, out);
      out += fit.block.atoms.size() * static_cast<size_t>(one.n_dimensions());
    });
  });
}

/// Covariances with all sparse points are added to energy (n_columns), positions (n_atoms, 3,
/// n_columns) and strain (6, n_columns), which may be null.
MLSEL_EXPORT int mlsel_fit_covariances(void *handle, int n_atoms, const int *numbers,
                                       const int *first, const int *neighbours,
                                       const double *vectors, double *energy, double *positions,
                                       double *strain, char *message, int size)
{
  return mlsel::guarded(message, size, [&] {
    auto &fit = *static_cast<mlsel::Fit *>(handle);
    const mlsel::Rows rows = {energy, positions, strain, fit.n_columns()};
    each_block(fit.block, n_atoms, numbers, first, neighbours, vectors, [&] {
      int column = 0;
      for (const auto &term : fit.terms) {
        if (term->is_centre(fit.block.atomic_number))
          term->add(fit.block, numbers, {rows, column, term->n_points});
        column += term->n_points;
      }
    });
  });
}

/// Numbers in the fewest digits that give them back, one a line; returns the text's length. `out`
/// has room for 25 characters a number.
MLSEL_EXPORT long mlsel_fit_text(const double *numbers, long n, char *out)
{
  char *at = out;
  for (long k = 0; k < n; k++) {
    at = std::to_chars(at, at + 24, numbers[k]).ptr;
    *at++ = '\n';
  }
  return at - out;
}
}
