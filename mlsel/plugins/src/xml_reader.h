// A reader of XML files as QUIP writes them: well-formed or refused with a sentence.
#ifndef MLSEL_XML_READER_H
#define MLSEL_XML_READER_H

#include <map>
#include <string>
#include <string_view>

#include "files.h"

namespace mlsel {

using Attributes = std::map<std::string, std::string>;

/// What is told of the elements, in the file's order.
class XmlHandler {
 public:
  virtual ~XmlHandler() = default;
  virtual void opened(const std::string &tag, const Attributes &attributes) = 0;
  /// Characters directly inside of <tag>; CDATA sections are skipped.
  virtual void text(const std::string &tag, std::string_view words)
  {
    (void) tag;
    (void) words;
  }
  virtual void closed(const std::string &tag) { (void) tag; }
};

/// Go through a file's text. Throws std::runtime_error where it is no XML.
void read_xml(const std::string &path, const std::string &text, XmlHandler &handler);

/// A finite number; std::runtime_error names what it is of.
double number(const std::string &path, const std::string &name, const std::string &text);

/// An element's attribute as a number, which std::runtime_error names if it is none; or "" if there
/// is none.
double real(const std::string &path, const Attributes &attributes, const char *name);
int integer(const std::string &path, const Attributes &attributes, const char *name);
std::string optional(const Attributes &attributes, const char *name);

inline bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}    // namespace mlsel
#endif
