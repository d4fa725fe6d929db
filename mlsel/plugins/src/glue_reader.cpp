#include "glue_reader.h"

#include <algorithm>

#include "gap_descriptor.h"

namespace mlsel {

void GlueReader::opened(const std::string &tag, const Attributes &attributes)
{
  if (tag == "Glue_params") {
    n_found_++;
    is_inside_ = true;
    term_ = {};
    const int n = integer(path_, attributes, "n_types");
    if (n < 1 || n > MAX_ELEMENTS)
      fail(path_, "has <Glue_params n_types=\"" + std::to_string(n) + "\">");
    label_ = optional(attributes, "label");
    term_.elements.assign(n, 0);
    term_.are_splines.assign(n, 0);
    term_.densities.resize(n);
    term_.embeddings.resize(n);
    term_.pairs.resize(static_cast<size_t>(n) * n);
  }
  if (!is_inside_) return;
  if (tag == "per_type_data") {
    kind_ = kind(attributes, "type");
    const int z = integer(path_, attributes, "atomic_num");
    if (z < 1 || z > MAX_ELEMENTS) fail(path_, "has atomic_num=\"" + std::to_string(z) + '"');
    term_.elements[kind_] = z;
  } else if (tag == "per_pair_data") {
    kind_ = kind(attributes, "type1");
    other_ = kind(attributes, "type2");
  } else if (tag == "density" && kind_ >= 0) {
    const std::string is_spline = optional(attributes, "do_spline");
    if (!is_spline.empty() && is_spline != "T" && is_spline != "F")
      throw NotCovered("has <density do_spline=\"" + is_spline + "\">");
    term_.are_splines[kind_] = is_spline == "T";
    x_ = "a";
    y_ = "rho";
    real(path_, attributes, "density_y1");
    open_spline(term_.densities[kind_], attributes, "density_y1", "density_yn", 0);
  } else if (tag == "potential_density" && kind_ >= 0) {
    x_ = "rho";
    y_ = "E";
    open_spline(term_.embeddings[kind_], attributes, "y1", "yn", 2e30);
  } else if (tag == "potential_pair" && kind_ >= 0 && other_ >= 0) {
    x_ = "r";
    y_ = "E";
    open_spline(term_.pairs[kind_ * term_.elements.size() + other_], attributes, "y1", "yn", 0);
  } else if (tag == "potential_neighbours") {
    throw NotCovered("has <potential_neighbours> in its core potential");
  } else if (tag == "point" && spline_) {
    point(attributes);
  }
}

void GlueReader::closed(const std::string &tag)
{
  if (tag == "Glue_params") is_inside_ = false;
  if (tag == "per_type_data" || tag == "per_pair_data") kind_ = other_ = -1;
  if (!spline_ || (tag != "density" && tag != "potential_density" && tag != "potential_pair"))
    return;
  if (spline_->x.size() != n_points_)
    fail(path_,
         "has <" + tag + " num_points=\"" + std::to_string(n_points_) + "\"> with " +
             std::to_string(spline_->x.size()) + " points");
  spline_ = nullptr;
}

int GlueReader::kind(const Attributes &attributes, const char *name) const
{
  const int n = static_cast<int>(term_.elements.size()), k = integer(path_, attributes, name);
  if (k < 1 || k > n)
    fail(path_,
         std::string("has ") + name + "=\"" + std::to_string(k) + "\" of " + std::to_string(n) +
             " in <Glue_params>");
  return k - 1;
}

void GlueReader::open_spline(GlueTerm::Spline &spline, const Attributes &attributes,
                             const char *first, const char *last, double otherwise)
{
  const int n = integer(path_, attributes, "num_points");
  if (n < 2) throw NotCovered("has num_points=" + std::to_string(n) + " in its core potential");
  n_points_ = n;
  spline = {};
  spline.slope_first = attributes.count(first) ? real(path_, attributes, first) : otherwise;
  spline.slope_last = attributes.count(last) ? real(path_, attributes, last) : otherwise;
  spline_ = &spline;
}

void GlueReader::point(const Attributes &attributes)
{
  const double x = real(path_, attributes, x_);
  if (std::count(spline_->x.begin(), spline_->x.end(), x))
    fail(path_, std::string("has two points with ") + x_ + '=' + attributes.at(x_));
  spline_->x.push_back(x);
  spline_->y.push_back(real(path_, attributes, y_));
}

GlueTerm GlueReader::finish()
{
  if (n_found_ == 0) throw NotCovered("has no <Glue_params>");
  if (n_found_ > 1) throw NotCovered("has several <Glue_params>");
  const size_t n = term_.elements.size();
  for (size_t k = 0; k < n; k++) {
    if (term_.elements[k] == 0 || term_.densities[k].x.empty() || term_.embeddings[k].x.empty())
      fail(path_,
           "has no <per_type_data type=\"" + std::to_string(k + 1) +
               "\"> with <density> and <potential_density>");
    if (std::count(term_.elements.begin(), term_.elements.end(), term_.elements[k]) > 1)
      throw NotCovered("has an element twice in its core potential");
    // one of the two orders is enough
    for (size_t l = 0; l < n; l++) {
      GlueTerm::Spline &one = term_.pairs[k * n + l];
      if (one.x.empty()) one = term_.pairs[l * n + k];
      if (!term_.pairs[l * n + k].x.empty() &&
          (one.x != term_.pairs[l * n + k].x || one.y != term_.pairs[l * n + k].y))
        throw NotCovered("has two potentials of one pair of elements in its core potential");
    }
  }
  return std::move(term_);
}

}    // namespace mlsel
