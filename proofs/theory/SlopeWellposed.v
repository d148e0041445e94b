(** T5 (d) [slope_wellposed]: y = s(W y + c) with slopes in [alpha, beta]. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric BanachSpace HilbertSpace Vectors VectorSpace DotProduct Slopes Resolvent
  LinearAlgebra.
Local Open Scope R_scope.
Set Implicit Arguments.

(** (I - t W) v. *)
Definition reduced (n : nat) (t : R) (W : mat n n) (v : vec n) : vec n := fun i => v i - t * apply W v i.

(** Two differences of s, and what is left of them, on either side of the slopes' range. *)
Lemma slope_sector s alpha beta p p' : quotients (fun _ => True) alpha beta s ->
  (s p - s p' - alpha * (p - p')) * (s p - s p' - beta * (p - p')) <= 0.
Proof.
  intros slope. destruct (Req_dec p p') as [<-|apart]; [right; ring|].
  pose proof (slope p p' I I apart) as range.
  replace (s p - s p') with ((s p - s p') / (p - p') * (p - p')) by (field; lra).
  set (t := (s p - s p') / (p - p')) in *. pose proof (Rle_0_sqr (p - p')) as square. unfold Rsqr in square.
  replace ((t * (p - p') - alpha * (p - p')) * (t * (p - p') - beta * (p - p')))
    with (- ((t - alpha) * (beta - t) * ((p - p') * (p - p')))) by ring.
  assert (0 <= (t - alpha) * (beta - t)) by (apply Rmult_le_pos; lra).
  assert (0 <= (t - alpha) * (beta - t) * ((p - p') * (p - p'))) by (apply Rmult_le_pos; assumption). lra.
Qed.

Section Bound.
Variables (n : nat) (p : Fin.t n -> posreal) (W : mat n n) (s : Fin.t n -> R -> R) (c : vec n) (alpha beta mu : R).
Hypothesis slope : forall i, quotients (fun _ => True) alpha beta (s i).
Let D := weighted_product p.
Hypothesis sector : forall v, mu * dot D v v <= dot D (reduced alpha W v) (reduced beta W v).

(** With residuals e = y - s(W y + c) and e' of y', d = y - y': mu |d|^2 <= |e - e'| |(2 I - (alpha + beta) W) d|. *)
Lemma slope_separation y y' :
  let r := fun y i => y i - layer s W c y i in
  mu * (length D (difference y y') * length D (difference y y'))
    <= length D (difference (r y) (r y'))
       * length D (fun i => 2 * difference y y' i - (alpha + beta) * apply W (difference y y') i).
Proof.
  intros r. set (d := difference y y'). set (e := difference (r y) (r y')).
  rewrite length_square. apply Rle_trans with (1 := sector d).
  set (A := reduced alpha W d). set (B := reduced beta W d).
  assert (both : (fun i => 2 * d i - (alpha + beta) * apply W d i) = (fun i => A i + B i)).
  { extensionality i. unfold A, B, reduced. ring. }
  rewrite both.
  assert (product : dot D (fun i => A i + -1 * e i) (fun i => B i + -1 * e i) <= 0).
  { rewrite <- (Ropp_involutive (dot D _ _)). rewrite <- Ropp_0. apply Ropp_le_contravar.
    replace (- dot D (fun i => A i + -1 * e i) (fun i => B i + -1 * e i))
      with (sum (fun i => -1 * (p i * ((A i + -1 * e i) * (B i + -1 * e i))))).
    2: { rewrite sum_scale. simpl. ring. }
    apply sum_nonneg. intros i. pose proof (cond_pos (p i)).
    pose proof (slope_sector (apply W y i + c i) (apply W y' i + c i) (slope i)) as pair0.
    assert (0 <= p i * - ((A i + -1 * e i) * (B i + -1 * e i))); [|lra].
    apply Rmult_le_pos; [lra|]. apply Ropp_0_ge_le_contravar, Rle_ge.
    apply Rle_trans with (2 := pair0). right. unfold A, B, e, r, reduced, d, layer. rewrite apply_difference.
    unfold difference. f_equal; ring. }
  rewrite dot_add, !dot_add_right, !dot_scale_right, !dot_scale in product.
  assert (cs : dot D e (fun i => A i + B i) <= length D e * length D (fun i => A i + B i))
    by exact (cauchy_schwarz (dot_space D) e (fun i => A i + B i)).
  pose proof (dot_nonneg D e). rewrite (dot_add_right D) in cs. rewrite (dot_comm D A e) in product. lra.
Qed.
End Bound.

Lemma apply_multiple m n a (M : mat m n) v i : apply (fun i j => a * M i j) v i = a * apply M v i.
Proof. unfold apply. rewrite <- sum_scale. apply sum_ext. intros j. ring. Qed.

(** Existence, by (c): with y = (I - alpha W)^-1 (alpha c + (beta - alpha) z) it is an equation for z whose slopes are
    in [0, 1]. *)
Section Existence.
Variables (n : nat) (p : Fin.t n -> posreal) (W : mat n n) (s : Fin.t n -> R -> R) (c : vec n) (alpha beta mu : R).
Hypothesis slope : forall i, quotients (fun _ => True) alpha beta (s i).
Hypothesis positive : 0 < mu.
Let D := weighted_product p.
Hypothesis sector : forall v, mu * dot D v v <= dot D (reduced alpha W v) (reduced beta W v).

Lemma reduced_inverse : exists B : mat n n, forall x, reduced alpha W (apply B x) = x.
Proof.
  assert (as_matrix : forall v i, apply (fun i j => unit_matrix i j - alpha * W i j) v i = reduced alpha W v i).
  { intros v i. unfold apply, reduced.
    rewrite (@sum_ext n _ (fun j => unit_matrix i j * v j - alpha * (W i j * v j))) by (intros j; ring).
    now rewrite sum_sub, sum_pick, sum_scale. }
  destruct (@inverse_matrix n (fun i j => unit_matrix i j - alpha * W i j)) as [B inverse].
  - intros v none i. destruct (Req_dec (v i) 0) as [zero|some]; [exact zero|]. exfalso.
    assert (v0 : 0 < dot D v v) by (apply dot_definite; exists i; exact some).
    assert (empty : reduced alpha W v = (fun _ => 0)) by (extensionality l; rewrite <- as_matrix; apply none).
    pose proof (sector v) as here. rewrite empty, dot_zero in here. nra.
  - exists B. intros x. extensionality i. rewrite <- as_matrix. apply inverse.
Qed.

Lemma slope_exists_proper : alpha < beta -> exists y, layer s W c y = y.
Proof.
  intros proper. destruct reduced_inverse as [B inverse].
  destruct (remainder_bounded D (fun i j => alpha * W i j)) as [L [L0 bounded]].
  assert (same : forall v, remainder (fun i j => alpha * W i j) v = reduced alpha W v).
  { intros v. extensionality i. unfold remainder, difference, reduced. now rewrite apply_multiple. }
  set (t := fun i u => (s i u - alpha * u) / (beta - alpha)).
  set (W' := fun i j => (beta - alpha) * times W B i j).
  set (c' := fun i => alpha * apply W (apply B c) i + c i).
  destruct (@monotone_resolvent n p W' t c' (mu / (L ^ 2 + 1))) as [z [fixed _]].
  - intros i u u' _ _ apart. pose proof (slope i I I apart) as range.
    replace ((t i u - t i u') / (u - u')) with (((s i u - s i u') / (u - u') - alpha) / (beta - alpha))
      by (unfold t; field; lra).
    assert (i0 : 0 < / (beta - alpha)) by (apply Rinv_0_lt_compat; lra).
    assert (one : (beta - alpha) * / (beta - alpha) = 1) by (apply Rinv_r; lra).
    unfold Rdiv at 1 3. split; [apply Rmult_le_pos; lra|].
    rewrite <- one. apply Rmult_le_compat_r; lra.
  - apply Rdiv_lt_0_compat; [exact positive | nra].
  - intros x. change (mu / (L ^ 2 + 1) * dot D x x <= dot D x (remainder W' x)). set (y := apply B x).
    assert (head : reduced alpha W y = x) by apply inverse.
    assert (rest : remainder W' x = reduced beta W y).
    { extensionality i. unfold remainder, difference, W'. rewrite apply_multiple, apply_times. fold y.
      pose proof (f_equal (fun v : vec n => v i) head) as here. unfold reduced in *. rewrite <- here. ring. }
    pose proof (sector y) as here. rewrite head, <- rest in here.
    apply Rle_trans with (2 := here). rewrite <- !length_square.
    pose proof (bounded y) as big. rewrite same, head in big. pose proof (sqrt_pos (dot D x x)) as x0.
    fold (length D x) in x0. set (a := length D x) in *. set (b := length D y) in *.
    assert (squares : a * a <= (L * b) * (L * b)) by (apply Rmult_le_compat; assumption).
    assert (pos : 0 < L ^ 2 + 1) by nra.
    apply Rmult_le_reg_r with (1 := pos). replace (mu / (L ^ 2 + 1) * (a * a) * (L ^ 2 + 1)) with (mu * (a * a)) by
      (field; lra).
    replace (mu * (b * b) * (L ^ 2 + 1)) with (mu * ((L * b) * (L * b) + b * b)) by ring.
    apply Rmult_le_compat_l; [lra|]. pose proof (Rle_0_sqr b) as b0. unfold Rsqr in b0. lra.
  - set (rhs := fun i => alpha * c i + (beta - alpha) * z i).
    exists (apply B rhs). extensionality i. unfold layer.
    assert (argument : apply W (apply B rhs) i + c i = apply W' z i + c' i).
    { unfold W', c'. rewrite apply_multiple, apply_times, <- !apply_times. unfold rhs, apply at 1.
      rewrite (@sum_ext n _ (fun j => alpha * (times W B i j * c j) + (beta - alpha) * (times W B i j * z j)))
        by (intros j; ring).
      rewrite sum_add, !sum_scale. unfold apply. ring. }
    rewrite argument.
    pose proof (f_equal (fun v : vec n => v i) fixed) as here. unfold layer, t in here.
    set (u := apply W' z i + c' i) in *.
    pose proof (f_equal (fun v : vec n => v i) (inverse rhs)) as solved. unfold reduced in solved.
    change (rhs i) with (alpha * c i + (beta - alpha) * z i) in solved.
    assert (value : s i u = alpha * u + (beta - alpha) * z i) by (rewrite <- here; field; lra).
    rewrite value. replace u with (apply W (apply B rhs) i + c i) by exact argument. lra.
Qed.

Lemma slope_exists : exists y, layer s W c y = y.
Proof.
  destruct (Rtotal_order alpha beta) as [proper|[flat|none]]; [exact (slope_exists_proper proper)| |].
  - destruct reduced_inverse as [B inverse].
    exists (apply B (fun i => s i 0 + alpha * c i)). extensionality i. unfold layer.
    pose proof (f_equal (fun v : vec n => v i) (inverse (fun i => s i 0 + alpha * c i))) as solved.
    unfold reduced in solved. set (y := apply B (fun i => s i 0 + alpha * c i)) in *.
    assert (affine_unit : forall u, s i u = s i 0 + alpha * u).
    { intros u. destruct (Req_dec u 0) as [->|apart]; [ring|]. pose proof (slope i I I apart) as range.
      assert (ratio : (s i u - s i 0) / (u - 0) = alpha) by lra.
      replace (s i u) with (s i 0 + (s i u - s i 0) / (u - 0) * (u - 0)) by (field; lra). rewrite ratio. ring. }
    rewrite affine_unit. simpl in solved. lra.
  - destruct n as [|k].
    + exists c. extensionality i. exact (Fin.case0 (fun i => layer s W c c i = c i) i).
    + exfalso. pose proof (slope Fin.F1 I I R1_neq_R0). lra.
Qed.
End Existence.

(** [sector] says sym((I - alpha W)^T P (I - beta W)) >= mu P, P = diag(p). *)
Theorem slope_wellposed (n : nat) (p : Fin.t n -> posreal) (W : mat n n) (s : Fin.t n -> R -> R) (c : vec n)
  (alpha beta mu : R) :
  (forall i, quotients (fun _ => True) alpha beta (s i)) -> 0 < mu ->
  (forall v, mu * sum (fun i => p i * (v i * v i))
     <= sum (fun i => p i * (reduced alpha W v i * reduced beta W v i))) ->
  let size := fun v : vec n => sqrt (sum (fun i => p i * (v i * v i))) in
  exists y, layer s W c y = y
  /\ (forall t, layer s W c t = t -> t = y)
  /\ forall L, (forall v, size (fun i => 2 * v i - (alpha + beta) * apply W v i) <= L * size v) ->
       forall x, size (difference x y) <= L * size (difference x (layer s W c x)) / mu.
Proof.
  intros slope positive sector size. set (D := weighted_product p).
  destruct (@slope_exists n p W s c alpha beta mu slope positive sector) as [y fixed].
  assert (separation : forall x, mu * (size (difference x y) * size (difference x y))
            <= size (difference x (layer s W c x))
               * size (fun i => 2 * difference x y i - (alpha + beta) * apply W (difference x y) i)).
  { intros x. pose proof (@slope_separation n p W s c alpha beta mu slope sector x y) as here.
    simpl in here. replace (difference (fun i => x i - layer s W c x i) (fun i => y i - layer s W c y i))
      with (difference x (layer s W c x)) in here; [exact here|].
    extensionality i. unfold difference. rewrite fixed. ring. }
  assert (pos : forall v, 0 <= size v) by (intros v; apply sqrt_pos).
  exists y. split; [exact fixed|]. split.
  - intros t ft. pose proof (separation t) as here. rewrite ft in here.
    replace (difference t t) with (fun _ : Fin.t n => 0) in here by (extensionality i; unfold difference; ring).
    assert (zero : size (fun _ => 0) = 0).
    { unfold size. rewrite (@sum_ext n _ (fun _ => 0)), sum_zero by (intros i; ring). exact sqrt_0. }
    rewrite zero, Rmult_0_l in here. pose proof (pos (difference t y)).
    assert (none : size (difference t y) = 0).
    { apply Rle_antisym; [|apply pos]. apply Rnot_lt_le. intros above.
      assert (0 < mu * (size (difference t y) * size (difference t y))).
      { apply Rmult_lt_0_compat; [exact positive | apply Rmult_lt_0_compat; exact above]. }
      lra. }
    destruct (zero_or_not (difference t y)) as [some|same].
    + exfalso. pose proof (dot_definite D _ some) as d0. rewrite <- length_square in d0.
      change (length D (difference t y)) with (size (difference t y)) in d0. rewrite none in d0. lra.
    + extensionality i. pose proof (f_equal (fun v : vec n => v i) same) as entry. unfold difference in entry.
      simpl in entry. lra.
  - intros L bounded x. set (r := difference x (layer s W c x)). set (d := difference x y).
    apply Rmult_le_reg_r with (1 := positive). replace (L * size r / mu * mu) with (L * size r) by (field; lra).
    destruct (pos d) as [d0|<-].
    + apply Rmult_le_reg_r with (1 := d0). pose proof (separation x) as here. fold r d in here.
      assert (size r * size (fun i => 2 * d i - (alpha + beta) * apply W d i) <= size r * (L * size d)).
      { apply Rmult_le_compat_l; [apply pos | apply bounded]. }
      lra.
    + rewrite Rmult_0_l. apply Rle_trans with (2 := bounded r). apply pos.
Qed.

(** The hypotheses can be met where (c) fails: max(u, u/2) of 3 y + c, which expands everywhere; mu = 1. *)
Theorem slope_wellposed_instance : let p := fun _ : Fin.t 1 => mkposreal 1 Rlt_0_1 in let W := fun _ _ : Fin.t 1 => 3 in
  quotients (fun _ => True) (1 / 2) 1 (fun u => Rmax u (u / 2))
  /\ (forall v, 1 * sum (fun i => p i * (v i * v i)) <= sum (fun i => p i * (reduced (1 / 2) W v i * reduced 1 W v i)))
  /\ forall v, sum (fun i => p i * (v i * remainder W v i)) = -2 * sum (fun i => p i * (v i * v i)).
Proof.
  intros p W. split; [|split].
  - assert (up : forall u u', u < u' -> 1 / 2 * (u' - u) <= Rmax u' (u' / 2) - Rmax u (u / 2) <= u' - u).
    { intros u u' order. unfold Rmax. destruct (Rle_dec u (u / 2)), (Rle_dec u' (u' / 2)); lra. }
    assert (slope : forall u u', u < u' -> 1 / 2 <= (Rmax u' (u' / 2) - Rmax u (u / 2)) / (u' - u) <= 1).
    { intros u u' order. pose proof (up u u' order) as range.
      assert (i0 : 0 < / (u' - u)) by (apply Rinv_0_lt_compat; lra).
      assert (one : (u' - u) * / (u' - u) = 1) by (apply Rinv_r; lra). unfold Rdiv at 1 3.
      split; [|rewrite <- one; apply Rmult_le_compat_r; lra].
      replace (1 * / 2) with (1 / 2 * (u' - u) * / (u' - u)) by (rewrite Rmult_assoc, one; field).
      apply Rmult_le_compat_r; lra. }
    intros u u' _ _ apart. destruct (Rtotal_order u u') as [below|[same|above]]; [|contradiction|auto].
    replace ((Rmax u (u / 2) - Rmax u' (u' / 2)) / (u - u')) with ((Rmax u' (u' / 2) - Rmax u (u / 2)) / (u' - u))
      by (field; lra). auto.
  - intros v. simpl. unfold tail, reduced, apply; simpl. unfold tail, W. right. field.
  - intros v. simpl. unfold tail, remainder, difference, apply; simpl. unfold tail, W. ring.
Qed.
