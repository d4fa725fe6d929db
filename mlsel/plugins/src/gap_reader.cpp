#include "gap_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gap_descriptor.h"
#include "md5.h"

namespace mlsel {
namespace {

const std::string &attribute(const std::string &path, const Attributes &attributes,
                             const char *name)
{
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(path, std::string("lacks the attribute ") + name);
  return found->second;
}

double real(const std::string &path, const Attributes &attributes, const char *name)
{
  return number(path, name, attribute(path, attributes, name));
}

int integer(const std::string &path, const Attributes &attributes, const char *name)
{
  const double value = real(path, attributes, name);
  if (value != std::floor(value) || std::abs(value) > 2e9)
    fail(path,
         std::string("has ") + name + "=\"" + attribute(path, attributes, name) +
             "\", not a whole number");
  return static_cast<int>(value);
}

std::string optional(const Attributes &attributes, const char *name)
{
  const auto found = attributes.find(name);
  return found == attributes.end() ? "" : found->second;
}

}    // namespace

void GapReader::opened(const std::string &tag, const Attributes &attributes)
{
  if (tag == "Potential") {
    potentials_.emplace_back(optional(attributes, "label"), optional(attributes, "init_args"));
  } else if (tag == "GAP_params") {
    if (is_ours_) throw NotCovered("holds several GAPs");
    label_ = optional(attributes, "label");
    is_ours_ = true;
    version_ = attributes.count("gap_version") ? integer(path_, attributes, "gap_version") : 0;
  } else if (tag == "GAP_data") {
    if (const std::string core = optional(attributes, "do_core"); core != "F" && !core.empty())
      throw NotCovered("has a core potential");
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
  } else if (tag == "theta") {
    if (!is_pair_) throw NotCovered("was written by an old version of GAP");
  } else if (tag == "sparseX" && is_in_coordinates_) {
    open_point(attributes);
  } else if (tag == "sparseX_slice" && is_in_coordinates_) {
    at_ = integer(path_, attributes, "start") - 1;
    end_ = integer(path_, attributes, "end");
    if (at_ < 0 || end_ > n_dimensions_ || at_ > end_)
      fail(path_,
           "has a <sparseX_slice> from " + optional(attributes, "start") + " to " +
               optional(attributes, "end") + " of " + std::to_string(n_dimensions_));
  } else if (tag.find("_params") != std::string::npos) {
    throw NotCovered("has <" + tag + ">");
  }
}

void GapReader::text(const std::string &tag, std::string_view words)
{
  if (!is_in_coordinates_) return;
  if (tag == "descriptor")
    descriptor_ += words;
  else if (tag == "theta")
    theta_ += words;
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
  const std::string label = label_ + std::to_string(file_.soaps.size() + file_.pairs.size() + 1);
  if (optional(attributes, "label") != label)
    throw NotCovered("has <gpCoordinates> that are not labelled " + label);
  const std::string covariance = optional(attributes, "covariance_type");
  is_pair_ = covariance == "1";
  if (!is_pair_ && covariance != "2")
    throw NotCovered("has another covariance than dot_product and ard_se");
  if (optional(attributes, "sparsified") != "T") throw NotCovered("has no sparse points");
  n_permutations_ = integer(path_, attributes, "n_permutations");
  if (!is_pair_ && !attributes.count("zeta"))
    throw NotCovered("was written by an old version of GAP");
  if (is_pair_ && real(path_, attributes, "signal_mean") != 0)
    throw NotCovered("has a mean of the covariance that is not 0");
  term_ = {};
  term_.delta = real(path_, attributes, "signal_variance");
  if (!is_pair_) term_.zeta = real(path_, attributes, "zeta");
  term_.n_sparse = integer(path_, attributes, "n_sparseX");
  n_dimensions_ = integer(path_, attributes, "dimensions");
  if (term_.n_sparse < 1 || n_dimensions_ < 1 ||
      static_cast<double>(term_.n_sparse) * n_dimensions_ > 1e10)
    fail(path_,
         "has n_sparseX=" + std::to_string(term_.n_sparse) +
             " and dimensions=" + std::to_string(n_dimensions_));
  term_.alphas.assign(term_.n_sparse, 0.0);
  has_alpha_.assign(term_.n_sparse, false);
  n_seen_ = 0;
  descriptor_.clear();
  theta_.clear();
  is_in_coordinates_ = true;
  is_separate_ = attributes.count("sparseX_filename");
  if (is_separate_) read_points_beside(attributes);
}

/// The numbers follow each other, of one point after the other.
void GapReader::read_points_beside(const Attributes &attributes)
{
  const std::string name = attributes.at("sparseX_filename");
  const auto slash = path_.rfind('/');
  const std::string file = slash == std::string::npos ? name : path_.substr(0, slash + 1) + name;
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
  term_.alphas[i - 1] = real(path_, attributes, "alpha") * real(path_, attributes, "sparseCutoff");
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
  const std::string name = descriptor_name(descriptor_);
  if (name != (is_pair_ ? "distance_2b" : "soap"))
    throw NotCovered("has the descriptor " + name +
                     (is_pair_ ? " with ard_se" : " with dot_product") +
                     ", not soap with dot_product or distance_2b with ard_se");
  if (n_permutations_ != 1) throw NotCovered("has permutations");
  long expected = 1;
  if (is_pair_) {
    PairTerm pair = read_pair(path_, descriptor_);
    pair.theta = number(path_, "theta", theta_);
    if (!(pair.theta > 0)) fail(path_, "has theta=" + theta_);
    file_.pairs.push_back(std::move(pair));
  } else {
    SoapTerm soap = read_soap(path_, descriptor_, version_);
    const long channels = static_cast<long>(soap.n_max) * static_cast<long>(soap.species.size());
    expected = channels * (channels + 1) / 2 * (soap.l_max + 1) + 1;
    soap.zeta = term_.zeta;
    soap.n_dimensions = static_cast<int>(n_dimensions_);
    file_.soaps.push_back(std::move(soap));
  }
  if (expected != n_dimensions_)
    fail(path_,
         "has a descriptor of " + std::to_string(expected) +
             " numbers and dimensions=" + std::to_string(n_dimensions_));
  if (const auto n = std::count(has_alpha_.begin(), has_alpha_.end(), true); n != term_.n_sparse)
    fail(path_,
         "has " + std::to_string(n) + " <sparseX> where n_sparseX says " +
             std::to_string(term_.n_sparse));
  if (n_seen_ != static_cast<long>(term_.points.size()))
    fail(path_,
         "has sparse points with " + std::to_string(n_seen_) + " numbers, not " +
             std::to_string(term_.points.size()));
  const auto take_points = [this](auto &term) {
    term.delta = term_.delta;
    term.n_sparse = term_.n_sparse;
    term.alphas = std::move(term_.alphas);
    term.points = std::move(term_.points);
  };
  if (is_pair_)
    take_points(file_.pairs.back());
  else
    take_points(file_.soaps.back());
  is_in_coordinates_ = false;
}

GapFile GapReader::finish()
{
  if (potentials_.size() > 1) throw NotCovered("holds several potentials");
  for (const auto &[label, init] : potentials_) {
    if (!is_ours_ || label != label_)
      throw NotCovered("has no <GAP_params label=\"" + label + "\">");
    if (init != "IP GAP label=" + label) throw NotCovered("is more than a GAP: \"" + init + "\"");
  }
  if (!is_ours_) throw NotCovered("has no <GAP_params>");
  const size_t n_terms = file_.soaps.size() + file_.pairs.size();
  if (n_terms == 0 || static_cast<int>(n_terms) != n_coordinate_)
    fail(path_,
         "has " + std::to_string(n_terms) + " <gpCoordinates> where n_coordinate says " +
             std::to_string(n_coordinate_));
  return std::move(file_);
}

}    // namespace mlsel
