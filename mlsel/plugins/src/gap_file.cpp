#include "gap_file.h"

#include <algorithm>
#include <type_traits>

namespace mlsel {

double GapFile::cutoff() const
{
  double largest = 0;
  for (const SoapTerm &term : soaps) largest = std::max(largest, term.cutoff);
  for (const PairTerm &term : pairs) largest = std::max(largest, term.cutoff);
  return largest;
}

namespace {

/// Call number(member) and list(member) for the members of a term, integers and flags by way of a
/// double.
template <typename Term, typename Number, typename List>
void members(Term &term, Number number, List list)
{
  list(term.alphas);
  list(term.points);
  for (auto *one : {&term.cutoff, &term.transition_width, &term.delta}) number(*one);
  number(term.n_sparse);
  if constexpr (std::is_same_v<std::remove_const_t<Term>, PairTerm>) {
    for (auto *one : {&term.z1, &term.z2}) number(*one);
    number(term.theta);
  } else {
    list(term.centres);
    list(term.species);
    for (auto *one : {&term.n_max, &term.l_max, &term.n_dimensions}) number(*one);
    for (auto *one : {&term.atom_sigma, &term.basis_error_exponent, &term.central_weight,
                      &term.covariance_sigma0, &term.zeta})
      number(*one);
    for (auto *one : {&term.central_in_all_species, &term.is_normalised, &term.has_two_l_plus_one})
      number(*one);
  }
}

}    // namespace

std::vector<double> GapFile::numbers() const
{
  std::vector<double> all(e0.begin(), e0.end());
  const auto add = [&all](const auto &terms) {
    all.push_back(static_cast<double>(terms.size()));
    for (const auto &term : terms)
      members(
          term, [&](auto value) { all.push_back(static_cast<double>(value)); },
          [&](const auto &list) {
            all.push_back(static_cast<double>(list.size()));
            all.insert(all.end(), list.begin(), list.end());
          });
  };
  add(soaps);
  add(pairs);
  return all;
}

GapFile GapFile::from_numbers(const std::vector<double> &numbers)
{
  GapFile file;
  auto at = numbers.begin() + file.e0.size();
  std::copy(numbers.begin(), at, file.e0.begin());
  const auto take = [&at](auto &terms) {
    terms.resize(static_cast<size_t>(*at++));
    for (auto &term : terms)
      members(
          term, [&](auto &value) { value = static_cast<std::decay_t<decltype(value)>>(*at++); },
          [&](auto &list) {
            const auto size = static_cast<long>(*at++);
            list.assign(at, at + size);
            at += size;
          });
  };
  take(file.soaps);
  take(file.pairs);
  return file;
}

}    // namespace mlsel
