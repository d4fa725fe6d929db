#include "gap_file.h"

#include <algorithm>
#include <type_traits>

namespace mlsel {
namespace {

/// Call number(member) and list(member) for the members of a term, integers and flags by way of a
/// double.
template <typename Term, typename Number, typename List>
void members(Term &term, Number number, List list)
{
  using Kind = std::remove_const_t<Term>;
  if constexpr (std::is_same_v<Kind, GlueTerm::Spline>) {
    list(term.x);
    list(term.y);
    for (auto *one : {&term.slope_first, &term.slope_last}) number(*one);
  } else {
    list(term.alphas);
    list(term.cutoffs);
    list(term.points);
    for (auto *one : {&term.cutoff, &term.transition_width, &term.delta, &term.mean}) number(*one);
    for (auto *one : {&term.n_sparse, &term.n_dimensions}) number(*one);
  }
  if constexpr (std::is_same_v<Kind, SoapTerm>) {
    list(term.centres);
    list(term.species);
    list(term.transformation);
    for (auto *one :
         {&term.n_max, &term.l_max, &term.nu_r, &term.nu_s, &term.n_mixed, &term.mix_shift})
      number(*one);
    for (auto *one : {&term.atom_sigma, &term.basis_error_exponent, &term.central_weight,
                      &term.covariance_sigma0, &term.zeta})
      number(*one);
    for (auto *one : {&term.central_in_all_species, &term.is_normalised, &term.has_two_l_plus_one,
                      &term.is_diagonal, &term.is_coupled, &term.is_trivial, &term.mixes_radial,
                      &term.mixes_species, &term.is_mix_symmetric})
      number(*one);
    auto &turbo = term.turbo;
    list(turbo.n_max);
    for (auto *one : {&turbo.along, &turbo.along_scaling, &turbo.across, &turbo.across_scaling,
                      &turbo.amplitude_scaling, &turbo.central_weight})
      list(*one);
    for (auto *one : {&turbo.basis, &turbo.radial_enhancement}) number(*one);
    number(turbo.filter_sharpness);
  } else if constexpr (std::is_same_v<Kind, PairTerm>) {
    for (auto *one : {&term.z1, &term.z2}) number(*one);
    for (auto *one : {&term.theta, &term.share}) number(*one);
  } else if constexpr (std::is_same_v<Kind, TripletTerm>) {
    list(term.elements);
    list(term.theta);
    list(term.permutations);
    number(term.kind);
    number(term.is_compact_kernel);
  }
}

/// The splines of a core have a list of their own length each.
template <typename Term, typename Each> void splines(Term &term, Each each)
{
  for (auto *one : {&term.densities, &term.embeddings, &term.pairs}) each(*one);
}

double largest(const std::vector<double> &numbers)
{
  return numbers.empty() ? 0.0 : *std::max_element(numbers.begin(), numbers.end());
}

}    // namespace

double GlueTerm::cutoff() const
{
  double reach = 0;
  for (const auto *list : {&densities, &pairs})
    for (const Spline &spline : *list) reach = std::max(reach, largest(spline.x));
  return reach;
}

double GapFile::cutoff() const
{
  double reach = 0;
  for (const SoapTerm &term : soaps) reach = std::max(reach, term.cutoff);
  for (const PairTerm &term : pairs) reach = std::max(reach, term.cutoff);
  // a neighbour's neighbour is within twice the cutoff of distance_Nb, but seen from its own centre
  for (const TripletTerm &term : triplets) reach = std::max(reach, term.cutoff);
  for (const GlueTerm &term : cores) reach = std::max(reach, term.cutoff());
  return reach;
}

std::string GapFile::summary() const
{
  std::string said;
  const auto add = [&said](size_t n, const char *name) {
    if (n) said += (said.empty() ? "" : ", ") + std::to_string(n) + ' ' + name;
  };
  const auto n_turbo = static_cast<size_t>(std::count_if(
      soaps.begin(), soaps.end(), [](const SoapTerm &term) { return term.turbo.is_used(); }));
  add(soaps.size() - n_turbo, "of SOAP");
  add(n_turbo, "of soap_turbo");
  add(pairs.size(), "of pairs");
  add(triplets.size(), "of triplets");
  add(cores.size(), "of splines");
  return said;
}

std::vector<double> GapFile::numbers() const
{
  std::vector<double> all(e0.begin(), e0.end());
  const auto number = [&all](auto value) { all.push_back(static_cast<double>(value)); };
  const auto list = [&](const auto &values) {
    number(values.size());
    all.insert(all.end(), values.begin(), values.end());
  };
  const auto add = [&](const auto &terms) {
    number(terms.size());
    for (const auto &term : terms) members(term, number, list);
  };
  add(soaps);
  add(pairs);
  add(triplets);
  number(cores.size());
  for (const GlueTerm &core : cores) {
    list(core.elements);
    list(core.are_splines);
    splines(core, add);
  }
  return all;
}

GapFile GapFile::from_numbers(const std::vector<double> &numbers)
{
  GapFile file;
  auto at = numbers.begin() + file.e0.size();
  std::copy(numbers.begin(), at, file.e0.begin());
  const auto number = [&at](auto &value) {
    value = static_cast<std::decay_t<decltype(value)>>(*at++);
  };
  const auto list = [&at](auto &values) {
    const auto size = static_cast<long>(*at++);
    values.assign(at, at + size);
    at += size;
  };
  const auto take = [&](auto &terms) {
    terms.resize(static_cast<size_t>(*at++));
    for (auto &term : terms) members(term, number, list);
  };
  take(file.soaps);
  take(file.pairs);
  take(file.triplets);
  file.cores.resize(static_cast<size_t>(*at++));
  for (GlueTerm &core : file.cores) {
    list(core.elements);
    list(core.are_splines);
    splines(core, take);
  }
  return file;
}

}    // namespace mlsel
