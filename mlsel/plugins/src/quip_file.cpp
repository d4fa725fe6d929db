#include "quip_file.h"

#include <cstdlib>

#include "xml_reader.h"

namespace {

using mlsel::Attributes;
using mlsel::fail;
using mlsel::is_space;

long whole_number(const std::string &path, const Attributes &attributes, const char *name)
{
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(path, std::string("lacks the attribute ") + name);
  char *end = nullptr;
  const long value = std::strtol(found->second.c_str(), &end, 10);
  if (end == found->second.c_str() || *end || value < 1)
    fail(path, std::string("has ") + name + "=\"" + found->second + "\", not a positive number");
  return value;
}

void check_real(const std::string &path, const Attributes &attributes, const char *name)
{
  const auto found = attributes.find(name);
  if (found == attributes.end()) fail(path, std::string("lacks the attribute ") + name);
  char *end = nullptr;
  std::strtod(found->second.c_str(), &end);
  if (end == found->second.c_str() || *end)
    fail(path, std::string("has ") + name + "=\"" + found->second + "\", not a number");
}

/// QUIP reads these files without looking at what it gets.
void check_sparse_points(const std::string &path, const std::string &name, long n_numbers)
{
  const auto slash = path.rfind('/');
  const std::string file = slash == std::string::npos ? name : path.substr(0, slash + 1) + name;
  const std::string text = mlsel::read_whole(file);
  const char *at = text.c_str();
  long n = 0;
  for (;;) {
    char *end = nullptr;
    std::strtod(at, &end);
    if (end == at) break;
    at = end;
    ++n;
  }
  while (is_space(*at)) ++at;
  if (*at || at != text.c_str() + text.size())
    fail(file, "holds something that is no number after " + std::to_string(n) + " numbers");
  if (n != n_numbers)
    fail(file, "holds " + std::to_string(n) + " numbers, where " + path + " tells of " +
             std::to_string(n_numbers));
}

/// Atomic numbers in a descriptor's line: Z=11, Z1=…, Z2=…, species_Z={11 17}.
void collect_species(const std::string &line, std::set<int> &species)
{
  for (size_t at = line.find('Z'); at != std::string::npos; at = line.find('Z', at + 1)) {
    size_t value = at + 1;
    while (value < line.size() && line[value] >= '0' && line[value] <= '9') ++value;
    while (value < line.size() && is_space(line[value])) ++value;
    if (value >= line.size() || line[value] != '=') continue;
    const char *c = line.c_str() + value + 1;
    const bool many = *c == '{';
    if (many) ++c;
    for (;;) {
      char *end = nullptr;
      const long number = std::strtol(c, &end, 10);
      if (end == c) break;
      if (number > 0 && number < 200) species.insert(static_cast<int>(number));
      c = end;
      if (!many) break;
    }
  }
}

/// Notes down what we look for.
class Reader : public mlsel::XmlHandler {
 public:
  explicit Reader(const std::string &path) : path_(path) {}

  mlsel::QuipFile read(const std::string &text)
  {
    mlsel::read_xml(path_, text, *this);
    finish_sparse();
    if (file_.labels.empty()) fail(path_, "has no <Potential label=…>: it is no potential of QUIP");
    return file_;
  }

  void text(const std::string &tag, std::string_view words) override
  {
    if (tag == "descriptor") collect_species(std::string(words), file_.species);
  }

  void opened(const std::string &tag, const Attributes &attributes) override
  {
    if (tag == "Potential") {
      const auto label = attributes.find("label");
      if (label == attributes.end() || attributes.find("init_args") == attributes.end())
        fail(path_, "has a <Potential> without label and init_args");
      file_.labels.push_back(label->second);
    } else if (tag == "gpCoordinates") {
      finish_sparse();
      n_sparse_ = whole_number(path_, attributes, "n_sparseX");
      const long dimensions = whole_number(path_, attributes, "dimensions");
      const auto name = attributes.find("sparseX_filename");
      if (name != attributes.end())
        check_sparse_points(path_, name->second, n_sparse_ * dimensions);
    } else if (tag == "sparseX") {
      check_real(path_, attributes, "alpha");
      check_real(path_, attributes, "sparseCutoff");
      ++n_sparse_seen_;
    } else if (tag == "e0") {
      check_real(path_, attributes, "value");
    }
    const auto atomic = attributes.find("atomic_num");
    if (atomic != attributes.end()) file_.species.insert(std::atoi(atomic->second.c_str()));
  }

 private:
  void finish_sparse()
  {
    if (n_sparse_seen_ != n_sparse_)
      fail(path_, "has " + std::to_string(n_sparse_seen_) + " <sparseX> where n_sparseX says " +
               std::to_string(n_sparse_));
    n_sparse_ = n_sparse_seen_ = 0;
  }

  const std::string &path_;
  long n_sparse_ = 0, n_sparse_seen_ = 0;
  mlsel::QuipFile file_;
};

}    // namespace

namespace mlsel {

QuipFile read_quip_file(const std::string &path)
{
  return Reader(path).read(read_whole(path));
}

std::string quip_init_string(const QuipFile &file, const std::string &path,
                             const std::string &given)
{
  std::string known;
  for (const std::string &label : file.labels) known += (known.empty() ? "" : ", ") + label;
  std::string init = given;
  if (init.find_first_not_of(" \t") == std::string::npos) {
    if (file.labels.size() != 1)
      fail(path, "holds several potentials: name one of them, \"Potential xml_label=…\": " + known);
    return "Potential xml_label=" + file.labels.front();
  }
  const std::string key = "xml_label=";
  const size_t at = init.find(key);
  if (at == std::string::npos) {
    // "IP GAP" and the like: QUIP takes the label alone from this
    if (file.labels.size() == 1 && init.find("label=") == std::string::npos)
      init += " label=" + file.labels.front();
    return init;
  }
  size_t end = at + key.size();
  while (end < init.size() && !is_space(init[end])) ++end;
  const std::string label = init.substr(at + key.size(), end - at - key.size());
  for (const std::string &one : file.labels)
    if (one == label) return init;
  fail(path, "has no potential with xml_label=" + label + "; it has: " + known);
}

}    // namespace mlsel
