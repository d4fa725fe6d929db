#include "gap_triplet.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "gap_table.h"

namespace mlsel {
namespace {

constexpr double SAME_PLACE = 1e-10;    // Å
constexpr size_t BATCH = 256;           // triplets whose covariances are computed at once

bool is(int number, int wanted) { return wanted == ANY_ELEMENT || number == wanted; }

/// Whether the numbers are among the elements, each as often as it stands there.
bool are_among(const std::vector<int> &elements, std::initializer_list<int> numbers)
{
  for (int number : numbers)
    if (std::count(numbers.begin(), numbers.end(), number) >
        std::count(elements.begin(), elements.end(), number))
      return false;
  return true;
}

/// The kernel of a distance, and its slope by it over the distance.
double kernel_of(double square, bool is_compact, double &slope)
{
  if (!is_compact) {
    const double value = std::exp(-square / 2);
    slope = -value;
    return value;
  }
  const double distance = std::sqrt(square), rest = std::max(0.0, 1 - distance);
  const double cube = rest * rest * rest;
  slope = -20 * cube;
  return cube * rest * (4 * distance + 1);
}

}    // namespace

GapTriplet::GapTriplet(const TripletTerm &term, const GapKernel &kernel)
    : kernel_(kernel), kind_(static_cast<TripletTerm::Kind>(term.kind)), elements_(term.elements),
      permutations_(term.permutations), cutoff_(term.cutoff), width_(term.transition_width),
      is_compact_kernel_(term.is_compact_kernel)
{
  accepts_all_ = std::count(elements_.begin(), elements_.end(), ANY_ELEMENT) > 0;
  for (int d = 0; d < 3; d++) inverse_theta_[d] = 1 / term.theta[d];
  pack_points(term);
}

/// The sparse points as often as there are permutations, delta², the cutoff and the normalisation
/// of the point's own covariance in their weights.
void GapTriplet::pack_points(const TripletTerm &term)
{
  const size_t n_permutations = permutations_.size() / 3;
  for (int s = 0; s < term.n_sparse; s++) {
    const double *from = &term.points[3 * static_cast<size_t>(s)];
    double q[3], gradient[3];
    for (int d = 0; d < 3; d++) q[d] = from[d] * inverse_theta_[d];
    const double weight = term.alphas[s] * term.delta * term.delta /
        (n_permutations > 1 ? std::sqrt(own_covariance(q, gradient)) : 1.0);
    for (size_t p = 0; p < n_permutations; p++) {
      for (int d = 0; d < 3; d++)
        points_.push_back(from[permutations_[3 * p + d]] * inverse_theta_[d]);
      points_.push_back(weight);
    }
    constant_ += term.alphas[s] * term.mean * term.mean;
  }
}

/// Σ_p K(|P_p q − q|), q in units of θ.
double GapTriplet::own_covariance(const double *q, double *gradient) const
{
  double sum = 0;
  for (int d = 0; d < 3; d++) gradient[d] = 0;
  for (size_t p = 0; p < permutations_.size(); p += 3) {
    double difference[3], square = 0, slope = 0;
    for (int d = 0; d < 3; d++) {
      difference[d] = q[permutations_[p + d]] - q[d];
      square += difference[d] * difference[d];
    }
    sum += kernel_of(square, is_compact_kernel_, slope);
    for (int d = 0; d < 3; d++) {
      gradient[permutations_[p + d]] += slope * difference[d];
      gradient[d] -= slope * difference[d];
    }
  }
  return sum;
}

bool GapTriplet::is_centre(int number) const
{
  if (kind_ == TripletTerm::angle) return is(number, elements_[0]);
  return accepts_all_ || std::count(elements_.begin(), elements_.end(), number);
}

bool GapTriplet::belongs(int centre, int j, int k) const
{
  if (kind_ == TripletTerm::angle)
    return (is(j, elements_[1]) && is(k, elements_[2])) ||
        (is(j, elements_[2]) && is(k, elements_[1]));
  return accepts_all_ || are_among(elements_, {centre, j, k});
}

void GapTriplet::gather(const GapEnvironments &block, const int *numbers, Triplets &list) const
{
  list.sides.clear();
  list.triplets.clear();
  const int centre = block.atomic_number;
  for (size_t i = 0; i < block.atoms.size(); i++) {
    const size_t begin = list.sides.size();
    for (int pair = block.first[i]; pair < block.first[i + 1]; pair++) {
      const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
      const double square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
      if (!numbers[block.neighbours[pair]] || !(square < cutoff_ * cutoff_)) continue;
      if (square < SAME_PLACE * SAME_PLACE)
        throw std::runtime_error("two atoms are at the same place");
      Triplets::Side side;
      side.pair = pair;
      side.r = std::sqrt(square);
      for (int d = 0; d < 3; d++) side.direction[d] = v[d] / side.r;
      side.cutoff = cutoff_function(side.r, cutoff_, width_, side.cutoff_slope);
      list.sides.push_back(side);
    }
    for (size_t a = begin; a < list.sides.size(); a++) {
      const int j = numbers[block.neighbours[list.sides[a].pair]];
      const double *to_j = &block.vectors[3 * static_cast<size_t>(list.sides[a].pair)];
      for (size_t b = begin; b < a; b++) {
        const int k = numbers[block.neighbours[list.sides[b].pair]];
        if (!belongs(centre, j, k)) continue;
        const double *to_k = &block.vectors[3 * static_cast<size_t>(list.sides[b].pair)];
        Triplets::Triplet triplet;
        triplet.centre = static_cast<int>(i);
        triplet.side[0] = static_cast<int>(a);
        triplet.side[1] = static_cast<int>(b);
        double square = 0;
        for (int d = 0; d < 3; d++) {
          triplet.between[d] = to_j[d] - to_k[d];
          square += triplet.between[d] * triplet.between[d];
        }
        const double r_jk = std::sqrt(square);
        if (r_jk < SAME_PLACE) throw std::runtime_error("two atoms are at the same place");
        for (int d = 0; d < 3; d++) triplet.between[d] /= r_jk;
        describe(centre, j, k, r_jk, list, triplet);
        list.triplets.push_back(triplet);
      }
    }
  }
}

/// The descriptor and the cutoff function, how often the triplet counts in it.
void GapTriplet::describe(int centre, int j, int k, double r_jk, const Triplets &list,
                          Triplets::Triplet &triplet) const
{
  const Triplets::Side &to_j = list.sides[triplet.side[0]], &to_k = list.sides[triplet.side[1]];
  const double f = to_j.cutoff, g = to_k.cutoff;
  triplet.value = f * g;
  triplet.slopes[0] = to_j.cutoff_slope * g;
  triplet.slopes[1] = f * to_k.cutoff_slope;
  triplet.slopes[2] = 0;
  if (kind_ == TripletTerm::angle) {
    // QUIP has it twice, as (j, k) and (k, j)
    triplet.value *= 2;
    triplet.slopes[0] *= 2;
    triplet.slopes[1] *= 2;
    triplet.q[0] = to_j.r + to_k.r;
    triplet.q[1] = (to_j.r - to_k.r) * (to_j.r - to_k.r);
    triplet.q[2] = r_jk;
    return;
  }
  if (kind_ == TripletTerm::distances) {
    // Of three atoms at least two pairs are within the cutoff: f f' + f f'' + f' f'' − 2 f f' f''.
    // The atom that two of them share is a centre, and all three share the last.
    double slope = 0;
    const double h = r_jk < cutoff_ ? cutoff_function(r_jk, cutoff_, width_, slope) : 0;
    const double rest = 1 - h * 2 / 3;
    triplet.slopes[2] = -triplet.value * slope * 2 / 3;
    triplet.value *= rest;
    triplet.slopes[0] *= rest;
    triplet.slopes[1] *= rest;
  }
  // where the centre, j and k stand, and from that the pairs (1, 2), (1, 3), (2, 3)
  int place[3];
  if (kind_ == TripletTerm::compact_distances) {
    place[0] = 0;
    place[1] = j <= k ? 1 : 2;
    place[2] = 3 - place[1];
  } else {
    place[0] = (j < centre) + (k < centre);
    place[1] = (centre <= j) + (k < j);
    place[2] = 3 - place[0] - place[1];
  }
  triplet.slot[0] = place[0] + place[1] - 1;
  triplet.slot[1] = place[0] + place[2] - 1;
  triplet.slot[2] = place[1] + place[2] - 1;
  triplet.q[triplet.slot[0]] = to_j.r;
  triplet.q[triplet.slot[1]] = to_k.r;
  triplet.q[triplet.slot[2]] = r_jk;
}

void GapTriplet::chain(const Triplets &list, const Triplets::Triplet &triplet, const double *by_q,
                       double by_cutoff, double *by_distances) const
{
  for (int d = 0; d < 3; d++) by_distances[d] = by_cutoff * triplet.slopes[d];
  if (kind_ == TripletTerm::angle) {
    const double along =
        2 * (list.sides[triplet.side[0]].r - list.sides[triplet.side[1]].r) * by_q[1];
    by_distances[0] += by_q[0] + along;
    by_distances[1] += by_q[0] - along;
    by_distances[2] += by_q[2];
  } else {
    for (int d = 0; d < 3; d++) by_distances[d] += by_q[triplet.slot[d]];
  }
}

void GapTriplet::evaluate(const GapEnvironments &block, const int *numbers, TripletWorkspace &work,
                          GapTotals &totals) const
{
  Triplets &list = work.list;
  gather(block, numbers, list);
  const int n_points = static_cast<int>(points_.size() / 4);
  const bool is_shared = kind_ != TripletTerm::angle;
  for (size_t begin = 0; begin < list.triplets.size(); begin += BATCH) {
    const size_t n = std::min(BATCH, list.triplets.size() - begin);
    const size_t stride = (n + kernel_.lanes - 1) / kernel_.lanes * kernel_.lanes;
    double *q = work.q.need(3 * BATCH), *sums = work.sums.need(4 * BATCH);
    for (size_t t = 0; t < stride; t++)
      for (int d = 0; d < 3; d++)
        q[d * stride + t] = list.triplets[begin + std::min(t, n - 1)].q[d] * inverse_theta_[d];
    kernel_.covariances(n_points, points_.data(), is_compact_kernel_, static_cast<int>(stride), q,
                        sums);
    for (size_t t = 0; t < n; t++) {
      const Triplets::Triplet &triplet = list.triplets[begin + t];
      double value = sums[t], by_q[3], by_distances[3];
      for (int d = 0; d < 3; d++) by_q[d] = sums[(d + 1) * stride + t];
      if (permutations_.size() > 3) {
        const double place[3] = {q[t], q[stride + t], q[2 * stride + t]};
        double gradient[3];
        const double own = own_covariance(place, gradient), scale = 1 / std::sqrt(own);
        value *= scale;
        for (int d = 0; d < 3; d++) by_q[d] = by_q[d] * scale - 0.5 * value * gradient[d] / own;
      }
      value += constant_;
      for (int d = 0; d < 3; d++) by_q[d] *= triplet.value * inverse_theta_[d];
      chain(list, triplet, by_q, value, by_distances);

      const Triplets::Side &to_j = list.sides[triplet.side[0]], &to_k = list.sides[triplet.side[1]];
      const size_t i = block.atoms[triplet.centre];
      const size_t j = block.neighbours[to_j.pair], k = block.neighbours[to_k.pair];
      if (totals.energies) {
        // QUIP gives it to all atoms of a distance_Nb
        const double energy = value * triplet.value / (is_shared ? 3 : 1);
        totals.energies[i] += energy;
        if (is_shared) {
          totals.energies[j] += energy;
          totals.energies[k] += energy;
        }
      }
      for (int a = 0; a < 3; a++) {
        const double apart = by_distances[2] * triplet.between[a];
        const double on_j = by_distances[0] * to_j.direction[a] + apart;
        const double on_k = by_distances[1] * to_k.direction[a] - apart;
        if (totals.forces) {
          totals.forces[3 * j + a] -= on_j;
          totals.forces[3 * k + a] -= on_k;
          totals.forces[3 * i + a] += on_j + on_k;
        }
        for (int b = 0; b < 3; b++) {
          const double at_j = to_j.r * to_j.direction[b] * on_j;
          const double at_k = to_k.r * to_k.direction[b] * on_k;
          totals.virial[3 * b + a] -= at_j + at_k;
          if (totals.virials) {
            totals.virials[9 * j + 3 * b + a] -= at_j;
            totals.virials[9 * k + 3 * b + a] -= at_k;
          }
        }
      }
    }
  }
}

}    // namespace mlsel
