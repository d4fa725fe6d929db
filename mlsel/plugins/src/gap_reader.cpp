#include "gap_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>

#include "gap_channels.h"
#include "gap_descriptor.h"
#include "gap_words.h"
#include "md5.h"

namespace mlsel {
namespace {

// QUIP's numbers of covariances
constexpr int SQUARED_EXPONENTIAL = 1, DOT_PRODUCT = 2, PIECEWISE_POLYNOMIAL = 4;

std::string covariance_name(int type)
{
  static const char *const NAMES[] = {"no covariance", "ard_se", "dot_product", "bond_real_space",
                                      "pp"};
  return type >= 0 && type <= 4 ? NAMES[type] : "covariance_type=" + std::to_string(type);
}

}    // namespace
void GapReader::opened(const std::string &tag, const Attributes &attributes)
{
  if (tag == "GAP_params") {
    if (is_ours_) throw NotCovered("holds several GAPs");
    label_ = optional(attributes, "label");
    is_ours_ = true;
    version_ = attributes.count("gap_version") ? integer(path_, attributes, "gap_version") : 0;
  } else if (tag == "GAP_data") {
    if (const std::string pca = optional(attributes, "do_pca"); pca != "F" && !pca.empty())
      throw NotCovered("has do_pca=" + pca);
    if (attributes.count("e0")) file_.e0.fill(real(path_, attributes, "e0"));
  } else if (tag == "e0") {
    const int z = integer(path_, attributes, "Z");
    if (z < 1 || z > MAX_ELEMENTS) fail(path_, "has e0 of the element " + std::to_string(z));
    file_.e0[z] = real(path_, attributes, "value");
  } else if (tag == "gpSparse") {
    if (optional(attributes, "label") != label_) throw NotCovered("holds several GAPs");
    if (optional(attributes, "fitted") != "T") throw NotCovered("is not fitted");
    n_coordinate_ = integer(path_, attributes, "n_coordinate");
  } else if (tag == "gpCoordinates") {
    open_coordinates(attributes);
  } else if (tag == "sparseX" && is_in_coordinates_) {
    open_point(attributes);
  } else if (tag == "sparseX_slice" && is_in_coordinates_) {
    at_ = integer(path_, attributes, "start") - 1;
    end_ = integer(path_, attributes, "end");
    if (at_ < 0 || end_ > n_dimensions_ || at_ > end_)
      fail(path_,
           "has a <sparseX_slice> from " + optional(attributes, "start") + " to " +
               optional(attributes, "end") + " of " + std::to_string(n_dimensions_));
  }
}

void GapReader::text(const std::string &tag, std::string_view words)
{
  if (!is_in_coordinates_) return;
  if (tag == "descriptor")
    descriptor_ += words;
  else if (tag == "theta")
    theta_ += words;
  else if (tag == "permutation")
    permutations_ += std::string(words) + ' ';
  else if (holds_numbers(tag))
    read_numbers(words);
}

void GapReader::closed(const std::string &tag)
{
  if (!is_in_coordinates_) return;
  if (tag == "gpCoordinates")
    close_coordinates();
  else if (holds_numbers(tag) && at_ != end_)
    fail(path_,
         "has a sparse point with " + std::to_string(n_seen_) + " of " +
             std::to_string(n_dimensions_) + " numbers");
}

void GapReader::open_coordinates(const Attributes &attributes)
{
  const std::string label = label_ + std::to_string(n_terms() + 1);
  if (optional(attributes, "label") != label)
    throw NotCovered("has <gpCoordinates> that are not labelled " + label);
  covariance_ = integer(path_, attributes, "covariance_type");
  if (optional(attributes, "sparsified") != "T") throw NotCovered("has no sparse points");
  n_permutations_ = integer(path_, attributes, "n_permutations");
  zeta_ = attributes.count("zeta") ? real(path_, attributes, "zeta") : 0;
  term_ = {};
  term_.delta = real(path_, attributes, "signal_variance");
  term_.mean = real(path_, attributes, "signal_mean");
  term_.n_sparse = integer(path_, attributes, "n_sparseX");
  n_dimensions_ = integer(path_, attributes, "dimensions");
  if (term_.n_sparse < 1 || n_dimensions_ < 1 ||
      static_cast<double>(term_.n_sparse) * n_dimensions_ > 1e10)
    fail(path_,
         "has n_sparseX=" + std::to_string(term_.n_sparse) +
             " and dimensions=" + std::to_string(n_dimensions_));
  term_.alphas.assign(term_.n_sparse, 0.0);
  term_.cutoffs.assign(term_.n_sparse, 1.0);
  has_alpha_.assign(term_.n_sparse, false);
  term_.n_dimensions = static_cast<int>(n_dimensions_);
  n_seen_ = 0;
  for (std::string *words : {&descriptor_, &theta_, &permutations_}) words->clear();
  is_in_coordinates_ = true;
  is_separate_ = attributes.count("sparseX_filename");
  if (is_separate_) read_points_beside(attributes);
}

/// The numbers follow each other, of one point after the other.
void GapReader::read_points_beside(const Attributes &attributes)
{
  const std::string file = beside(path_, attributes.at("sparseX_filename"));
  const std::string text = read_whole(file);
  start_points();
  at_ = 0;
  end_ = static_cast<long>(term_.points.size());
  point_ = 0;
  read_numbers(text);
  if (at_ != end_)
    fail(file,
         "holds " + std::to_string(at_) + " numbers, where " + path_ + " tells of " +
             std::to_string(end_));
  const std::string sum = optional(attributes, "sparseX_md5sum");
  if (sum.size() == 32 && sum != md5(text))
    fail(file,
         "is not the file of sparse points that " + path_ + " was written with: its md5 sum is " +
             md5(text) + ", not " + sum);
}

// A file cut short must not make us ask for its numbers' memory first.
void GapReader::start_points()
{
  term_.points.assign(static_cast<size_t>(term_.n_sparse) * n_dimensions_, 0.0);
}

void GapReader::open_point(const Attributes &attributes)
{
  const int i = integer(path_, attributes, "i");
  if (i < 1 || i > term_.n_sparse || has_alpha_[i - 1])
    fail(path_,
         "has <sparseX i=\"" + optional(attributes, "i") + "\">, where n_sparseX is " +
             std::to_string(term_.n_sparse));
  has_alpha_[i - 1] = true;
  term_.cutoffs[i - 1] = real(path_, attributes, "sparseCutoff");
  term_.alphas[i - 1] = real(path_, attributes, "alpha") * term_.cutoffs[i - 1];
  is_sliced_ = optional(attributes, "sliced") == "T";
  if (is_separate_) return;
  if (term_.points.empty()) start_points();
  point_ = static_cast<size_t>(i - 1) * n_dimensions_;
  at_ = 0;
  end_ = n_dimensions_;
}

void GapReader::read_numbers(std::string_view words)
{
  const char *at = words.data(), *end = at + words.size();
  for (;;) {
    while (at < end && is_space(*at)) ++at;
    if (at == end) return;
    double value = 0;
    const auto result = std::from_chars(*at == '+' ? at + 1 : at, end, value);
    if (result.ec != std::errc() || !std::isfinite(value) ||
        (result.ptr < end && !is_space(*result.ptr)))
      fail(path_, "has a sparse point with something that is no number");
    if (at_ >= end_) fail(path_, "has a sparse point with too many numbers");
    term_.points[point_ + at_++] = value;
    ++n_seen_;
    at = result.ptr;
  }
}

void GapReader::close_coordinates()
{
  check_points();
  const std::string name = descriptor_name(descriptor_);
  const int order = name == "distance_Nb" ? descriptor_order(path_, descriptor_) : 0;
  if ((name == "soap" || name == "soap_turbo") && covariance_ == DOT_PRODUCT)
    close_soap(name == "soap_turbo");
  else if ((name == "distance_2b" || order == 2) && covariance_ == SQUARED_EXPONENTIAL)
    close_pair();
  else if ((name == "angle_3b" || order == 3) &&
           (covariance_ == SQUARED_EXPONENTIAL || covariance_ == PIECEWISE_POLYNOMIAL))
    close_triplet();
  else
    throw NotCovered("has the descriptor " + name +
                     (order ? " order=" + std::to_string(order) : std::string()) + " with " +
                     covariance_name(covariance_) +
                     ", not soap or soap_turbo with dot_product, nor distances of pairs or "
                     "triplets with ard_se");
  is_in_coordinates_ = false;
}

/// Points and weights are there, as many as the file says.
void GapReader::check_points() const
{
  if (const auto n = std::count(has_alpha_.begin(), has_alpha_.end(), true); n != term_.n_sparse)
    fail(path_,
         "has " + std::to_string(n) + " <sparseX> where n_sparseX says " +
             std::to_string(term_.n_sparse));
  if (n_seen_ != static_cast<long>(term_.points.size()))
    fail(path_,
         "has sparse points with " + std::to_string(n_seen_) + " numbers, not " +
             std::to_string(term_.points.size()));
}

void GapReader::check_dimensions(long expected) const
{
  if (expected != n_dimensions_)
    fail(path_,
         "has a descriptor of " + std::to_string(expected) +
             " numbers and dimensions=" + std::to_string(n_dimensions_));
}

void GapReader::close_soap(bool is_turbo)
{
  SoapTerm soap =
      is_turbo ? read_turbo(path_, descriptor_) : read_soap(path_, descriptor_, version_);
  // soap has one more, for covariance_sigma0
  check_dimensions(SoapChannels(soap).n_numbers + !is_turbo);
  if (n_permutations_ != 1) throw NotCovered("has permutations of soap");
  // before it was an attribute, zeta was the only width
  soap.zeta = zeta_ > 0 || words(theta_).empty() ? zeta_ : widths(1).front();
  if (!(soap.zeta > 0)) fail(path_, "has zeta=" + std::to_string(soap.zeta));
  take_points(soap);
  file_.soaps.push_back(std::move(soap));
}

void GapReader::close_pair()
{
  check_dimensions(1);
  PairTerm pair = read_pair(path_, descriptor_, version_);
  pair.theta = widths(1).front();
  take_points(pair);
  file_.pairs.push_back(std::move(pair));
}

void GapReader::close_triplet()
{
  check_dimensions(3);
  TripletTerm triplet = read_triplet(path_, descriptor_, version_);
  triplet.theta = widths(3);
  triplet.is_compact_kernel = covariance_ == PIECEWISE_POLYNOMIAL;
  read_permutations(triplet);
  take_points(triplet);
  file_.triplets.push_back(std::move(triplet));
}

void GapReader::take_points(GapTerm &term)
{
  const double cutoff = term.cutoff, width = term.transition_width;
  term = std::move(term_);
  term.cutoff = cutoff;
  term.transition_width = width;
}

std::vector<double> GapReader::widths(size_t n) const
{
  std::vector<double> found;
  for (const std::string &word : words(theta_)) found.push_back(number(path_, "theta", word));
  for (const double one : found)
    if (!(one > 0)) fail(path_, "has theta=" + theta_);
  if (found.size() != n)
    fail(path_,
         "has " + std::to_string(found.size()) + " theta where it needs " + std::to_string(n));
  return found;
}

void GapReader::read_permutations(TripletTerm &term) const
{
  std::vector<int> &found = term.permutations;
  for (const std::string &word : words(permutations_)) {
    const double one = number(path_, "permutation", word);
    if (one != 1 && one != 2 && one != 3)
      fail(path_, "has a permutation of 3 numbers with " + word);
    found.push_back(static_cast<int>(one) - 1);
  }
  const auto has = [&found](int a, int b, int c) {
    for (size_t k = 0; k < found.size(); k += 3)
      if (found[k] == a && found[k + 1] == b && found[k + 2] == c) return true;
    return false;
  };
  if (static_cast<long>(found.size()) != 3L * n_permutations_ || !has(0, 1, 2))
    fail(path_, "has other <permutation> than n_permutations says");
  // The order of two atoms of one element must not matter, nor that of the widths.
  for (size_t k = 0; k < found.size(); k += 3)
    for (int d = 0; d < 3; d++)
      if (std::abs(term.theta[found[k + d]] - term.theta[d]) > 1e-12 * term.theta[d])
        throw NotCovered("has permutations of numbers that have not one theta");
  if (term.kind == TripletTerm::angle) return;
  const std::vector<int> &z = term.elements;
  const bool first_two = z[0] == z[1], last_two = z[1] == z[2];
  const bool is_compact = term.kind == TripletTerm::compact_distances;
  if (((first_two || last_two) && !has(1, 0, 2) && (is_compact || last_two)) ||
      (first_two && !is_compact && !has(0, 2, 1)))
    throw NotCovered("has a distance_Nb whose energy depends on the order of two atoms of one "
                     "element");
}

/// QUIP keeps the radial functions of the last descriptor for the next that has as many.
void GapReader::check_turbo_bases() const
{
  const auto number = [](const TurboDensity &turbo) {
    return std::accumulate(turbo.n_max.begin(), turbo.n_max.end(), 0);
  };
  for (const SoapTerm &one : file_.soaps)
    for (const SoapTerm &other : file_.soaps) {
      const TurboDensity &a = one.turbo, &b = other.turbo;
      if (!a.is_used() || !b.is_used() || number(a) != number(b)) continue;
      const bool is_gaussian = a.basis == TurboDensity::with_gaussian;
      if (a.basis != b.basis || a.n_max != b.n_max ||
          (is_gaussian && (a.along != b.along || one.cutoff != other.cutoff)))
        throw NotCovered("has several soap_turbo with different radial functions, but as many, "
                         "which versions of QUIP before 2026 confuse");
    }
}

GapFile GapReader::finish()
{
  if (!is_ours_) throw NotCovered("has no <GAP_params>");
  if (n_terms() == 0 || static_cast<int>(n_terms()) != n_coordinate_)
    fail(path_,
         "has " + std::to_string(n_terms()) + " <gpCoordinates> where n_coordinate says " +
             std::to_string(n_coordinate_));
  check_turbo_bases();
  return std::move(file_);
}

}    // namespace mlsel
