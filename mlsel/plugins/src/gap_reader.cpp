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
    throw NotCovered("was written by an old version of GAP");
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
  const std::string label = label_ + std::to_string(file_.terms.size() + 1);
  if (optional(attributes, "label") != label)
    throw NotCovered("has <gpCoordinates> that are not labelled " + label);
  if (optional(attributes, "covariance_type") != "2")
    throw NotCovered("has another covariance than dot_product");
  if (optional(attributes, "sparsified") != "T") throw NotCovered("has no sparse points");
  if (integer(path_, attributes, "n_permutations") != 1) throw NotCovered("has permutations");
  if (!attributes.count("zeta")) throw NotCovered("was written by an old version of GAP");
  term_ = {};
  term_.delta = real(path_, attributes, "signal_variance");
  term_.zeta = real(path_, attributes, "zeta");
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
  SoapTerm term = read_descriptor(path_, descriptor_, version_);
  term.delta = term_.delta;
  term.zeta = term_.zeta;
  term.n_sparse = term_.n_sparse;
  term.n_dimensions = n_dimensions_;
  term.alphas = std::move(term_.alphas);
  term.points = std::move(term_.points);
  const long channels = static_cast<long>(term.n_max) * static_cast<long>(term.species.size());
  const long expected = channels * (channels + 1) / 2 * (term.l_max + 1) + 1;
  if (expected != n_dimensions_)
    fail(path_,
         "has a descriptor of " + std::to_string(expected) +
             " numbers and dimensions=" + std::to_string(n_dimensions_));
  if (const auto n = std::count(has_alpha_.begin(), has_alpha_.end(), true); n != term.n_sparse)
    fail(path_,
         "has " + std::to_string(n) + " <sparseX> where n_sparseX says " +
             std::to_string(term.n_sparse));
  if (n_seen_ != static_cast<long>(term.points.size()))
    fail(path_,
         "has sparse points with " + std::to_string(n_seen_) + " numbers, not " +
             std::to_string(term.points.size()));
  file_.terms.push_back(std::move(term));
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
  if (file_.terms.empty() || static_cast<int>(file_.terms.size()) != n_coordinate_)
    fail(path_,
         "has " + std::to_string(file_.terms.size()) + " <gpCoordinates> where n_coordinate says " +
             std::to_string(n_coordinate_));
  return std::move(file_);
}

}    // namespace mlsel
