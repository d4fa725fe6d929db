#include "gap_soap.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "gap_table.h"

namespace mlsel {
namespace {

constexpr double SAME_PLACE = 1e-10;       // Å
constexpr double SHORTEST_TURBO = 1e-5;    // QUIP leaves shorter power spectra as long as they are
constexpr double NO_AMPLITUDE = 1e-10;     // of soap_turbo: QUIP takes what is less for 0

/// n_rows × n_columns into strips of GAP_STRIP columns, rows of a strip behind each other.
template <typename Get> void pack(Buffer<double> &to, int n_rows, int n_columns, Get get)
{
  const int n_strips = (n_columns + GAP_STRIP - 1) / GAP_STRIP;
  double *packed = to.need(static_cast<size_t>(n_strips) * GAP_STRIP * n_rows);
  for (int strip = 0; strip < n_strips; strip++)
    for (int row = 0; row < n_rows; row++)
      for (int k = 0; k < GAP_STRIP; k++) {
        const int column = strip * GAP_STRIP + k;
        *packed++ = column < n_columns ? get(row, column) : 0.0;
      }
}

int round_up(int n, int step) { return (n + step - 1) / step * step; }

double power(double base, double exponent)
{
  if (exponent == std::floor(exponent) && exponent >= 0 && exponent <= 64) {
    double result = 1;
    for (int n = static_cast<int>(exponent); n; n >>= 1, base *= base)
      if (n & 1) result *= base;
    return result;
  }
  return std::pow(base, exponent);
}

/// Where a product of two channels stands, densities that differ one behind the other.
int place_in_triangle(const SoapChannels &channels, int a, int b)
{
  if (channels.is_symmetric) return a * (a + 1) / 2 + b;
  const int second = channels.n[0] + b;
  return second * (second + 1) / 2 + a;
}

}    // namespace

GapSoap::GapSoap(const SoapTerm &term, const GapKernel &kernel)
    : kernel_(kernel), cutoff_(term.cutoff)
{
  width_ = term.transition_width;
  normalised_ = term.is_normalised;
  zeta_ = term.zeta;
  const auto is_any = [](const std::vector<int> &elements) {
    return std::count(elements.begin(), elements.end(), ANY_ELEMENT) > 0;
  };
  species_.fill(is_any(term.species) ? 0 : -1);
  for (size_t k = 0; k < term.species.size(); k++) species_[term.species[k]] = static_cast<int>(k);
  centres_.fill(is_any(term.centres));
  for (int z : term.centres) centres_[z] = true;
  species_[0] = -1;    // atoms that nobody sees

  layout_.n_max = term.n_max;
  layout_.l_max = term.l_max;
  layout_.n_species = static_cast<int>(term.species.size());
  layout_.n_channels = term.n_max * layout_.n_species;
  layout_.n_radial = round_up(term.n_max, kernel.lanes);
  layout_.stride = round_up((layout_.n_species - 1) * term.n_max + layout_.n_radial, GAP_STRIP);
  layout_.n_lm = (term.l_max + 1) * (term.l_max + 1);
  layout_.n_power = (term.l_max + 1) * layout_.n_channels * (layout_.n_channels + 1) / 2;
  make_factors(term);
  make_radial(term);
  const SoapChannels channels(term);
  make_mixture(term, channels);
  pack_points(term, make_numbers(term, channels));
  power_stride_ = round_up(n_power_, GAP_STRIP) + 2 * GAP_STRIP;
  dot_stride_ = round_up(n_sparse_, GAP_STRIP);
  n_coefficients_ = static_cast<size_t>(layout_.n_lm) * layout_.stride;
  n_mixed_ = static_cast<size_t>(spectrum_.n_lm) * spectrum_.stride;
  n_radial_ = static_cast<size_t>(layout_.l_max + 1) * layout_.n_max;
}

void GapSoap::make_factors(const SoapTerm &term)
{
  const int n = (term.l_max + 1) * (term.l_max + 2) / 2;
  factor_.resize(n);
  up_.resize(n);
  down_.resize(n);
  for (int l = 0, k = 0; l <= term.l_max; l++) {
    weight_.push_back(term.has_two_l_plus_one ? 1.0 / (2 * l + 1) : 1.0);
    for (int m = 0; m <= l; m++, k++) {
      double factorials = 1;
      for (int i = l - m + 1; i <= l + m; i++) factorials *= i;
      factor_[k] = std::sqrt((2 * l + 1) / (4 * std::numbers::pi) / factorials * (m ? 2 : 1));
      if (l > m) {
        up_[k] = (2.0 * l - 1) / (l - m);
        down_[k] = (l + m - 1.0) / (l - m);
      }
    }
  }
  layout_.factor = factor_.data();
  layout_.up = up_.data();
  layout_.down = down_.data();
  layout_.weight = weight_.data();
}

void GapSoap::make_radial(const SoapTerm &term)
{
  const auto functions = radial_functions(term);
  in_all_species_ = term.central_in_all_species;
  amplitude_scaling_ = term.turbo.amplitude_scaling;
  shortest_ = term.turbo.is_used() ? SHORTEST_TURBO : 0;
  for (int s = 0; s < layout_.n_species; s++)
    for (const double one : functions[functions.size() > 1 ? s : 0]->centre())
      centre_.push_back(factor_[0] * one);
  table_.make(functions, term, layout_.n_radial);
  layout_.table = table_.rows();
  layout_.inverse_spacing = table_.inverse_spacing();
}

void GapSoap::make_mixture(const SoapTerm &term, const SoapChannels &channels)
{
  spectrum_ = layout_;
  if (!channels.is_mixed) return;
  int n = 0;
  for (const int density : {0, 1}) {
    if (density && channels.is_symmetric) break;
    for (const auto &[to, from, weight] : channels.parts[density])
      mixture_.push_back({n + to, from, weight});
    n += channels.n[density];
  }
  spectrum_.n_channels = n;
  spectrum_.stride = round_up(n, GAP_STRIP);
  spectrum_.n_power = (term.l_max + 1) * n * (n + 1) / 2;
}

/// What of the triangle of products is kept, and how much it counts; and where the descriptor's
/// numbers stand in what is kept, the descriptor's order being QUIP's.
std::vector<int> GapSoap::make_numbers(const SoapTerm &term, const SoapChannels &channels)
{
  const int n_l = term.l_max + 1, n_products = static_cast<int>(channels.products.size());
  const int n_triangle = spectrum_.n_power / n_l;
  n_power_ = channels.n_numbers;
  counts_.resize(n_power_, 1.0);
  std::vector<int> places(n_power_);
  const auto is_once = [&](int product) {
    return channels.is_symmetric && channels.products[product][0] == channels.products[product][1];
  };
  const auto place = [&](int product, int l) {
    const auto [a, b] = channels.products[product];
    return l * n_triangle + place_in_triangle(channels, a, b);
  };
  const std::vector<double> &by_file = term.transformation;
  for (size_t k = 0; k < by_file.size(); k += 3) {
    const int to = static_cast<int>(by_file[k]), from = static_cast<int>(by_file[k + 1]);
    const double root = std::sqrt(is_once(from / n_l) ? 1.0 : 2.0);
    kept_.push_back(
        {to, place(from / n_l, from % n_l), by_file[k + 2] * root, by_file[k + 2] / root});
    places[to] = to;
  }
  if (!by_file.empty()) return places;
  // a product of two densities counts twice in the triangle, once in QUIP's descriptor
  const double across = channels.is_symmetric ? channels.across : std::sqrt(0.5);
  for (int k = 0; k < n_products; k++)
    for (int l = 0; l < n_l; l++) {
      const int to = channels.is_plain ? place(k, l) : l * n_products + k;
      const double factor = is_once(k) ? 1 : across;
      if (!channels.is_plain) kept_.push_back({to, place(k, l), factor, factor});
      counts_[to] = weight_[l] * (is_once(k) ? 1 : 2);
      places[k * n_l + l] = to;
    }
  return places;
}

/// The factors of the power spectrum (1/√(2l + 1), and √2 where two channels differ) go into
/// the sparse points, delta² into their weights.
void GapSoap::pack_points(const SoapTerm &term, const std::vector<int> &places)
{
  const int d = term.n_dimensions, n_power = n_power_;
  n_sparse_ = term.n_sparse;
  delta_square_ = term.delta * term.delta;
  std::vector<double> points(static_cast<size_t>(n_sparse_) * n_power);
  for (int s = 0; s < n_sparse_; s++) {
    const double *from = &term.points[static_cast<size_t>(s) * d];
    double *to = &points[static_cast<size_t>(s) * n_power];
    for (const int place : places) to[place] = *from++ * std::sqrt(counts_[place]);
    constants_.push_back(term.turbo.is_used() ? 0.0 : *from * term.covariance_sigma0);
    weights_.push_back(term.alphas[s] * term.delta * term.delta);
  }
  const auto at = [&](int s, int k) { return points[static_cast<size_t>(s) * n_power + k]; };
  pack(points_across_, n_power, n_sparse_, [&](int k, int s) { return at(s, k); });
  pack(points_along_, n_sparse_, n_power, at);
}

void GapSoap::evaluate(const GapEnvironments &block, const int *numbers, SoapWorkspace &work,
                       GapTotals &totals) const
{
  describe(block, numbers, work);
  kernel_.product(static_cast<int>(block.atoms.size()), n_power_, n_sparse_, work.power.get(),
                  power_stride_, points_across_.get(), work.dots.get(), dot_stride_);
  apply_covariance(block, work, totals);
  if (totals.forces || totals.virials) push_back(block, work, totals);
}

/// The neighbours of each central atom, by species, in as many lanes as vectors have.
void GapSoap::gather_neighbours(const GapEnvironments &block, const int *numbers,
                                SoapWorkspace &work) const
{
  const int lanes = kernel_.lanes, n_atoms = static_cast<int>(block.atoms.size());
  work.starts.assign(1, 0);
  for (std::vector<double> *list :
       {&work.x, &work.y, &work.z, &work.inverse_r, &work.cutoff, &work.cutoff_slope, &work.place})
    list->clear();
  for (std::vector<int> *list : {&work.knot, &work.pair, &work.species}) list->clear();
  work.distances.resize(block.neighbours.size());
  for (int k = 0; k < n_atoms; k++) {
    for (int s = 0; s < layout_.n_species; s++) work.near[s].clear();
    for (int pair = block.first[k]; pair < block.first[k + 1]; pair++) {
      const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
      const int s = species_[numbers[block.neighbours[pair]]];
      const double square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
      if (s < 0 || !(square < cutoff_ * cutoff_)) continue;
      if (square < SAME_PLACE * SAME_PLACE)
        throw std::runtime_error("two atoms are at the same place");
      work.distances[pair] = std::sqrt(square);
      work.near[s].push_back(pair);
    }
    for (int s = 0; s < layout_.n_species; s++) {
      const size_t n = work.near[s].size();
      for (size_t i = 0; i < (n + lanes - 1) / lanes * lanes; i++) {
        if (i % lanes == 0) work.species.push_back(s);
        add_lane(block, i < n ? work.near[s][i] : -1, work);
      }
    }
    work.starts.push_back(static_cast<int>(work.pair.size()));
  }
}

/// One neighbour, or with pair = −1 nobody.
inline void GapSoap::add_lane(const GapEnvironments &block, int pair, SoapWorkspace &work) const
{
  work.pair.push_back(pair);
  if (pair < 0) {
    for (std::vector<double> *list :
         {&work.x, &work.y, &work.cutoff, &work.cutoff_slope, &work.place})
      list->push_back(0);
    work.z.push_back(1);
    work.inverse_r.push_back(1);
    work.knot.push_back(0);
    return;
  }
  const double *v = &block.vectors[3 * static_cast<size_t>(pair)], r = work.distances[pair];
  work.x.push_back(v[0]);
  work.y.push_back(v[1]);
  work.z.push_back(v[2]);
  work.inverse_r.push_back(1 / r);
  double df = 0;
  const int s = work.species.back();
  work.cutoff.push_back(weight(r, s, df));
  work.cutoff_slope.push_back(df);
  double place = 0;
  work.knot.push_back(table_.row(s, r, place));
  work.place.push_back(place);
}

/// The cutoff function, or soap_turbo's amplitude, which goes to 0 there.
inline double GapSoap::weight(double r, int species, double &slope) const
{
  if (amplitude_scaling_.empty()) return cutoff_function(r, cutoff_, width_, slope);
  const double exponent = amplitude_scaling_[species], x = r / cutoff_;
  slope = 0;
  if (exponent == 0) return 1;
  const double base = (1 - x) * (1 - x) * (1 + 2 * x);
  if (base <= NO_AMPLITUDE) return 0;
  const double less = power(base, exponent - 1);
  slope = -6 * exponent * less * x * (1 - x) / cutoff_;
  return less * base;
}

void GapSoap::reserve(int n_atoms, SoapWorkspace &work) const
{
  const size_t n_lanes = work.pair.size();
  work.harmonics.need(n_lanes * layout_.n_lm);
  work.radial.need(n_lanes * n_radial_);
  work.slopes.need(n_lanes * n_radial_);
  work.coefficients.need(n_atoms * n_coefficients_);
  if (!mixture_.empty()) work.mixed.need(n_atoms * n_mixed_);
  work.power.need(static_cast<size_t>(n_atoms) * power_stride_);
  work.dots.need(static_cast<size_t>(n_atoms) * dot_stride_);
  work.power_slopes.need(static_cast<size_t>(n_atoms) * power_stride_);
  work.scales.resize(n_atoms);
  work.pulls.resize(n_atoms);
}

SoapNeighbours GapSoap::neighbours_of(const SoapWorkspace &work, int atom) const
{
  const int at = work.starts[atom], lanes = kernel_.lanes;
  return {(work.starts[atom + 1] - at) / lanes,
          work.species.data() + at / lanes,
          work.x.data() + at,
          work.y.data() + at,
          work.z.data() + at,
          work.inverse_r.data() + at,
          work.cutoff.data() + at,
          work.cutoff_slope.data() + at,
          work.knot.data() + at,
          work.place.data() + at};
}

SoapExpansion GapSoap::expansion_of(const SoapWorkspace &work, int atom) const
{
  const size_t at = work.starts[atom];
  return {work.harmonics.get() + at * layout_.n_lm, work.radial.get() + at * n_radial_,
          work.slopes.get() + at * n_radial_};
}

void GapSoap::describe(const GapEnvironments &block, const int *numbers, SoapWorkspace &work) const
{
  gather_neighbours(block, numbers, work);
  reserve(static_cast<int>(block.atoms.size()), work);
  const int n_atoms = static_cast<int>(block.atoms.size()), own = species_[block.atomic_number];
  double *coefficients = work.coefficients.get();
  std::fill_n(coefficients, n_atoms * n_coefficients_, 0.0);
  for (int k = 0; k < n_atoms; k++) {
    double *c = coefficients + k * n_coefficients_;
    for (int i = 0; i < layout_.n_channels; i++)
      if (in_all_species_ || i / layout_.n_max == own) c[i] = centre_[i];
    kernel_.expand(layout_, neighbours_of(work, k), expansion_of(work, k), c);
    const double square = spectrum(work, k);
    // nothing to normalise where nobody is near, and the centre is of none of the species
    const double length = std::sqrt(square);
    work.scales[k] = !normalised_ || length < shortest_ ? 1.0 : length > 0 ? 1 / length : 0.0;
  }
}

/// The coefficients that an atom's power spectrum is made of.
double *GapSoap::mixed_of(SoapWorkspace &work, int atom) const
{
  if (mixture_.empty()) return work.coefficients.get() + atom * n_coefficients_;
  return work.mixed.get() + atom * n_mixed_;
}

/// An atom's power spectrum from its coefficients, and the square of its length.
double GapSoap::spectrum(SoapWorkspace &work, int atom) const
{
  double *mixed = mixed_of(work, atom);
  if (!mixture_.empty()) {
    const double *c = work.coefficients.get() + atom * n_coefficients_;
    std::fill_n(mixed, n_mixed_, 0.0);
    for (int lm = 0; lm < layout_.n_lm; lm++)
      for (const auto &[to, from, weight] : mixture_)
        mixed[lm * spectrum_.stride + to] += weight * c[lm * layout_.stride + from];
  }
  double *power = work.power.get() + static_cast<size_t>(atom) * power_stride_;
  if (kept_.empty()) return kernel_.spectrum(spectrum_, mixed, power);
  double *triangle = work.triangle.need(spectrum_.n_power + 2 * GAP_STRIP), square = 0;
  kernel_.spectrum(spectrum_, mixed, triangle);
  std::fill_n(power, n_power_, 0.0);
  for (const Kept &one : kept_) power[one.to] += one.factor * triangle[one.from];
  for (int k = 0; k < n_power_; k++) square += counts_[k] * power[k] * power[k];
  return square;
}

/// All products' numbers from those of the power spectrum.
const double *GapSoap::spread(const double *kept, double Kept::*by, Buffer<double> &triangle) const
{
  if (kept_.empty()) return kept;
  double *all = triangle.need(spectrum_.n_power + 2 * GAP_STRIP);
  std::fill_n(all, spectrum_.n_power, 0.0);
  for (const Kept &one : kept_) all[one.from] += one.*by * kept[one.to];
  return all;
}

/// Energies; and in place of the products the derivatives by them.
void GapSoap::apply_covariance(const GapEnvironments &block, SoapWorkspace &work,
                               GapTotals &totals) const
{
  const auto n_sparse = static_cast<size_t>(n_sparse_);
  if (totals.variances) work.covariances.resize(block.atoms.size() * n_sparse);
  for (size_t k = 0; k < block.atoms.size(); k++) {
    double *row = work.dots.get() + k * dot_stride_, energy = 0, pull = 0;
    for (int s = 0; s < n_sparse_; s++) {
      const double cosine = row[s] * work.scales[k];
      const double argument = cosine + constants_[s];
      double one, other;
      if (zeta_ == 4.0) {
        other = argument * argument * argument;
        one = other * argument;
      } else {
        one = power(argument, zeta_);
        other = power(argument, zeta_ - 1);
      }
      energy += weights_[s] * one;
      if (totals.variances) work.covariances[k * n_sparse + s] = delta_square_ * one;
      row[s] = weights_[s] * zeta_ * other;
      pull += row[s] * cosine;
    }
    if (totals.energies) totals.energies[block.atoms[k]] += energy;
    work.pulls[k] = normalised_ ? pull * work.scales[k] * work.scales[k] : 0.0;
  }
  if (!totals.variances) return;
  work.variances.resize(block.atoms.size());
  variance_->find(kernel_, static_cast<int>(block.atoms.size()), work.covariances.data(), n_sparse_,
                  work.root, work.variances.data());
  for (size_t k = 0; k < block.atoms.size(); k++)
    totals.variances[block.atoms[k]] += work.variances[k];
}

const double *GapSoap::to_neighbours(SoapWorkspace &work, int atom, const double *slopes,
                                     double scale, double pull) const
{
  const int n = work.starts[atom + 1] - work.starts[atom];
  double *scratch = work.scratch.need(static_cast<size_t>(spectrum_.stride) * spectrum_.n_channels);
  double *gradient = work.coefficient_gradients.need(n_coefficients_);
  double *by_mixed = mixture_.empty() ? gradient : work.mixed_gradients.need(n_mixed_);
  double *gx = work.gradients.need(3 * static_cast<size_t>(n));
  kernel_.spectrum_adjoint(
      spectrum_, mixed_of(work, atom), spread(power_of(work, atom), &Kept::pull, work.triangle),
      spread(slopes, &Kept::factor, work.triangle_slopes), scale, pull, scratch, by_mixed);
  if (!mixture_.empty()) {
    std::fill_n(gradient, n_coefficients_, 0.0);
    for (int lm = 0; lm < layout_.n_lm; lm++)
      for (const auto &[to, from, weight] : mixture_)
        gradient[lm * layout_.stride + from] += weight * by_mixed[lm * spectrum_.stride + to];
  }
  kernel_.gradient(layout_, neighbours_of(work, atom), expansion_of(work, atom), gradient, gx,
                   gx + n, gx + 2 * static_cast<size_t>(n));
  return gx;
}

/// From those derivatives to the power spectra, the coefficients, and the atoms.
void GapSoap::push_back(const GapEnvironments &block, SoapWorkspace &work, GapTotals &totals) const
{
  const int n_atoms = static_cast<int>(block.atoms.size());
  kernel_.product(n_atoms, n_sparse_, n_power_, work.dots.get(), dot_stride_, points_along_.get(),
                  work.power_slopes.get(), power_stride_);
  double virial[9] = {};
  for (int k = 0; k < n_atoms; k++) {
    const int begin = work.starts[k], n = work.starts[k + 1] - begin;
    if (!n) continue;
    const double *slopes = work.power_slopes.get() + static_cast<size_t>(k) * power_stride_;
    const double *gx = to_neighbours(work, k, slopes, work.scales[k], work.pulls[k]);
    const double *gy = gx + n, *gz = gy + n;
    double centre[3] = {};
    for (int i = 0; i < n; i++) {
      const int pair = work.pair[begin + i];
      if (pair < 0) continue;
      const double g[3] = {gx[i], gy[i], gz[i]};
      const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
      const size_t j = block.neighbours[pair];
      for (int a = 0; a < 3; a++) {
        centre[a] += g[a];
        if (totals.forces) totals.forces[3 * j + a] -= g[a];
        for (int b = 0; b < 3; b++) virial[3 * a + b] -= v[a] * g[b];
        if (totals.virials)
          for (int b = 0; b < 3; b++) totals.virials[9 * j + 3 * a + b] -= v[a] * g[b];
      }
    }
    if (totals.forces)
      for (int a = 0; a < 3; a++)
        totals.forces[3 * static_cast<size_t>(block.atoms[k]) + a] += centre[a];
  }
  for (int a = 0; a < 9; a++) totals.virial[a] += virial[a];
}

}    // namespace mlsel
