(** Vectors as lists: the distances of the sup norm and the Euclidean norm, and what a contraction of R^n converges to. *)
From Coq Require Import Reals Lra Lia List.
From Deqops Require Import Metric BanachSpace WeightedSpace Picard.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** max over i of w_i |x_i - y_i| *)
Fixpoint sup_distance (weights x y : list R) : R :=
  match weights, x, y with
  | w :: weights', a :: x', b :: y' => Rmax (w * Rabs (a - b)) (sup_distance weights' x' y')
  | _, _, _ => 0
  end.

(** sum over i of (x_i - y_i)^2 *)
Fixpoint squares (x y : list R) : R :=
  match x, y with
  | a :: x', b :: y' => (a - b) * (a - b) + squares x' y'
  | _, _ => 0
  end.

Definition euclidean_distance (x y : list R) : R := sqrt (squares x y).

(** abs (x_i - y_i) <= r_i for each i *)
Fixpoint within (radii x y : list R) : Prop :=
  match radii, x, y with
  | r :: radii', a :: x', b :: y' => Rabs (a - b) <= r /\ within radii' x' y'
  | [], [], [] => True
  | _, _, _ => False
  end.

Fixpoint iterates (G : list R -> list R) (x : list R) (m : nat) : list R :=
  match m with O => x | S m' => G (iterates G x m') end.

(** [s] is what Picard's iteration of the contraction [G] of R^n converges to, and nothing else is a fixed point. *)
Definition attracts (n : nat) (distance : list R -> list R -> R) (k : R) (G : list R -> list R) (s : list R) : Prop :=
  length s = n /\ G s = s
  /\ (forall t, length t = n -> G t = t -> t = s)
  /\ (forall x, length x = n -> distance x s <= distance (G x) x / (1 - k))
  /\ (forall x, length x = n -> forall eps, 0 < eps ->
        exists N, forall m, (N <= m)%nat -> distance (iterates G x m) s < eps).

(** [G] maps R^n into itself, brings any two points closer by the factor [k] < 1, and has exactly one fixed point. *)
Definition converges (n : nat) (distance : list R -> list R -> R) (k : R) (G : list R -> list R) : Prop :=
  0 <= k < 1
  /\ (forall x, length x = n -> length (G x) = n)
  /\ (forall x y, length x = n -> length y = n -> distance (G x) (G y) <= k * distance x y)
  /\ exists s, attracts n distance k G s.

(** The same, and the fixed point is within the radii, entry by entry, of a given point. *)
Definition converges_near (n : nat) (distance : list R -> list R -> R) (k : R) (G : list R -> list R)
    (center radii : list R) : Prop :=
  converges n distance k G /\ exists s, attracts n distance k G s /\ within radii s center.

(** ** Lists as points of the weighted spaces *)
Fixpoint to_point (J : join) (weights : list posreal) (x : list R) : point (weighted_space J weights) :=
  match weights with
  | [] => tt
  | _ :: weights' => (hd 0 x, to_point J weights' (tl x))
  end.

Fixpoint to_list (J : join) (weights : list posreal) : point (weighted_space J weights) -> list R :=
  match weights with
  | [] => fun _ => []
  | _ :: weights' => fun p => fst p :: to_list J weights' (snd p)
  end.

Lemma to_list_length J weights p : length (to_list J weights p) = length weights.
Proof. induction weights as [|w rest IH]; simpl; [reflexivity | now rewrite IH]. Qed.

Lemma to_list_to_point J weights : forall x, length x = length weights -> to_list J weights (to_point J weights x) = x.
Proof.
  induction weights as [|w rest IH]; intros [|a x] same; simpl in *; try lia; [reflexivity|].
  now rewrite IH by lia.
Qed.

Lemma to_point_to_list J weights p : to_point J weights (to_list J weights p) = p.
Proof. induction weights as [|w rest IH]; simpl; [now destruct p | destruct p as [a q]; simpl; now rewrite IH]. Qed.

(** A distance on lists that is the metric of a weighted space. *)
Definition measures (J : join) (weights : list posreal) (distance : list R -> list R -> R) : Prop :=
  forall x y, length x = length weights -> length y = length weights ->
  distance x y = dist (metric (weighted_space J weights)) (to_point J weights x) (to_point J weights y).

Lemma sup_measures (weights : list posreal) :
  measures join_linf weights (sup_distance (map pos weights)).
Proof.
  induction weights as [|w rest IH]; intros [|a x] [|b y] lx ly; simpl in *; try lia; [reflexivity|].
  rewrite IH by lia. reflexivity.
Qed.

Definition one : posreal := mkposreal 1 Rlt_0_1.

Lemma squares_nonneg x y : 0 <= squares x y.
Proof. revert y. induction x as [|a x IH]; intros [|b y]; simpl; try lra. specialize (IH y). pose proof (Rle_0_sqr (a - b)) as p. unfold Rsqr in p. lra. Qed.

Lemma Rabs_sqr_self a : Rabs a * Rabs a = a * a.
Proof. unfold Rabs. destruct (Rcase_abs a); ring. Qed.

Lemma square_le_sqrt k a b : 0 <= k -> 0 <= a -> 0 <= b -> b <= k * k * a -> sqrt b <= k * sqrt a.
Proof.
  intros k0 a0 b0 le. apply square_below; [apply Rmult_le_pos; [exact k0 | apply sqrt_pos]|].
  rewrite sqrt_sqrt by exact b0. replace (k * sqrt a * (k * sqrt a)) with (k * k * (sqrt a * sqrt a)) by ring.
  rewrite sqrt_sqrt by exact a0. exact le.
Qed.

Lemma euclidean_measures n : measures join_l2 (repeat one n) euclidean_distance.
Proof.
  induction n as [|n IH]; intros [|a x] [|b y] lx ly; simpl in lx, ly; try lia; [exact sqrt_0|].
  change (euclidean_distance (a :: x) (b :: y) = hypotenuse (1 * Rabs (a - b))
    (dist (metric (weighted_space join_l2 (repeat one n))) (to_point join_l2 (repeat one n) x)
       (to_point join_l2 (repeat one n) y))).
  rewrite <- IH by lia. unfold hypotenuse, euclidean_distance. simpl. rewrite sqrt_sqrt by apply squares_nonneg.
  f_equal. f_equal. rewrite !Rmult_1_l. symmetry. apply Rabs_sqr_self.
Qed.

Lemma positive_weights (weights : list R) : Forall (Rlt 0) weights -> exists ws : list posreal, map pos ws = weights.
Proof.
  induction 1 as [|w rest p _ [ws eq]]; [exists []; reflexivity|].
  exists (mkposreal w p :: ws). simpl. now rewrite eq.
Qed.

(** ** Picard's theorem on lists *)
Section Contraction.
Variables (J : join) (weights : list posreal) (distance : list R -> list R -> R) (k : R) (G : list R -> list R).
Let n := length weights.
Hypothesis measured : measures J weights distance.
Hypothesis range : 0 <= k < 1.
Hypothesis stays : forall x, length x = n -> length (G x) = n.
Hypothesis contracts : forall x y, length x = n -> length y = n -> distance (G x) (G y) <= k * distance x y.
Let E := metric (weighted_space J weights).
Let P := to_point J weights.
Let T (p : Base E) : Base E := P (G (to_list J weights p)).

Lemma iterates_stay x m : length x = n -> length (iterates G x m) = n.
Proof. intros len. induction m; simpl; auto. Qed.

Lemma iterates_points x m : length x = n -> iterate E T (P x) m = P (iterates G x m).
Proof.
  intros len. induction m as [|m IH]; simpl; [reflexivity|].
  rewrite IH. unfold T, P. now rewrite to_list_to_point by now apply iterates_stay.
Qed.

Theorem contraction_converges : converges n distance k G.
Proof.
  split; [exact range|]. split; [exact stays|]. split; [exact contracts|].
  assert (lip : lipschitz E (fun _ => True) k T).
  { intros p q _ _. unfold T.
    pose proof (to_list_length J weights p) as lp. pose proof (to_list_length J weights q) as lq.
    pose proof (contracts _ _ lp lq) as c.
    rewrite (measured _ _ (stays _ lp) (stays _ lq)), (measured _ _ lp lq), !to_point_to_list in c. exact c. }
  destruct (picard range (fun p _ => I : True) lip (@metric_complete (weighted_space J weights)) (P []) I)
    as [p [_ [fixed [only [conv bound]]]]].
  pose proof (to_list_length J weights p) as lp. fold n in lp.
  assert (back : P (to_list J weights p) = p) by apply to_point_to_list.
  assert (forth : forall x, length x = n -> to_list J weights (P x) = x) by (intros; now apply to_list_to_point).
  exists (to_list J weights p). split; [exact lp|]. split; [|split; [|split]].
  - pose proof (f_equal (to_list J weights) fixed) as eq. unfold T in eq. now rewrite forth in eq by auto.
  - intros t lt ft. rewrite <- (forth t lt). f_equal. apply only; [exact I|].
    unfold equilibrium, T. now rewrite forth, ft by exact lt.
  - intros x lx. rewrite (measured _ _ lx lp), (measured _ _ (stays _ lx) lx). fold P. rewrite back.
    pose proof (bound (P x) I) as b. unfold T in b. rewrite forth in b by exact lx. exact b.
  - intros x lx eps pos. destruct (proj1 (conv (P x) I) eps pos) as [N HN].
    exists N. intros m Hm. specialize (HN m Hm). rewrite iterates_points in HN by exact lx.
    rewrite measured; [|now apply iterates_stay | exact lp]. fold P. rewrite back. exact HN.
Qed.
End Contraction.

(** A limit of points of a closed box is in the box; distances here bound each entry from below. *)
Definition bounds_entries (n : nat) (distance : list R -> list R -> R) : Prop :=
  exists C, 0 < C /\ forall x y, length x = n -> length y = n -> within (repeat (C * distance x y) n) x y.

Lemma within_mono radii radii' x y : Forall2 Rle radii radii' -> within radii x y -> within radii' x y.
Proof.
  intros le. revert x y. induction le as [|r r' rs rs' one_le _ IH]; intros [|a x] [|b y]; simpl; try tauto.
  intros [h t]. split; [lra | auto].
Qed.

Lemma within_limit radii : forall x z, length x = length radii -> length z = length radii ->
  (forall eps, 0 < eps -> exists y, within radii y z /\ within (repeat eps (length radii)) y x) -> within radii x z.
Proof.
  induction radii as [|r radii IH]; intros [|a x] [|c z] lx lz near; simpl in *; try lia.
  split.
  - apply Rnot_lt_le. intros far.
    destruct (near ((Rabs (a - c) - r) / 2) ltac:(lra)) as [[|b y] [i e]]; [destruct i|].
    destruct i as [i _], e as [e _].
    pose proof (Rabs_triang (a - b) (b - c)) as t. replace (a - b + (b - c)) with (a - c) in t by ring.
    rewrite (Rabs_minus_sym a b) in t. lra.
  - apply IH; try lia. intros eps pos. destruct (near eps pos) as [[|b y] [i e]]; [destruct i |].
    exists y. split; [apply i | apply e].
Qed.

Lemma within_length radii x y : within radii x y -> length x = length radii /\ length y = length radii.
Proof.
  revert x y. induction radii as [|r radii IH]; intros [|a x] [|b y]; simpl; try tauto.
  intros [_ rest]. destruct (IH _ _ rest). split; lia.
Qed.

Lemma within_self radii x : Forall (Rle 0) radii -> length x = length radii -> within radii x x.
Proof.
  intros nonneg. revert x. induction nonneg as [|r radii p _ IH]; intros [|a x] len; simpl in *; try lia.
  split; [unfold Rminus; rewrite Rplus_opp_r, Rabs_R0; exact p | apply IH; lia].
Qed.

(** A box around [center] that [G] maps into itself holds the fixed point. *)
Lemma box_holds_fixed_point n distance k G center radii :
  bounds_entries n distance -> converges n distance k G -> length radii = n -> within radii center center ->
  (forall x, within radii x center -> within radii (G x) center) -> converges_near n distance k G center radii.
Proof.
  intros [C [posC entries]] conv len inside inv. split; [exact conv|].
  destruct conv as [_ [_ [_ [s at_s]]]]. exists s. split; [exact at_s|].
  destruct at_s as [ls [_ [_ [_ tends]]]].
  destruct (within_length _ _ _ inside) as [lc _].
  assert (stay : forall m, within radii (iterates G center m) center) by (induction m; simpl; auto).
  apply within_limit; try lia. intros eps pos.
  destruct (tends center ltac:(lia) (eps / C) ltac:(apply Rdiv_lt_0_compat; lra)) as [N HN].
  specialize (HN N (le_n N)). exists (iterates G center N). split; [apply stay|].
  destruct (within_length _ _ _ (stay N)) as [ly _]. rewrite len.
  apply within_mono with (2 := entries (iterates G center N) s ltac:(lia) ls).
  assert (small : C * distance (iterates G center N) s <= eps).
  { apply Rmult_lt_compat_l with (r := C) in HN; [|exact posC].
    replace (C * (eps / C)) with eps in HN by (field; lra). lra. }
  clear - small. induction n; simpl; auto using Forall2.
Qed.

Lemma sup_bounds_entries weights : Forall (Rlt 0) weights -> bounds_entries (length weights) (sup_distance weights).
Proof.
  induction 1 as [|w weights p _ [C [posC IH]]].
  - exists 1. split; [lra|]. intros [|a x] [|b y]; simpl; try lia; auto.
  - exists (Rmax (/ w) C). pose proof (Rinv_0_lt_compat w p) as ip.
    pose proof (Rmax_l (/ w) C). pose proof (Rmax_r (/ w) C).
    split; [lra|]. intros [|a x] [|b y] lx ly; simpl in *; try lia.
    set (m := Rmax (w * Rabs (a - b)) (sup_distance weights x y)).
    pose proof (Rmax_l (w * Rabs (a - b)) (sup_distance weights x y)) as l. fold m in l.
    pose proof (Rmax_r (w * Rabs (a - b)) (sup_distance weights x y)) as r. fold m in r.
    pose proof (Rabs_pos (a - b)) as a0. assert (m0 : 0 <= m) by nra.
    split.
    + apply Rle_trans with (/ w * (w * Rabs (a - b))); [right; field; lra|].
      apply Rle_trans with (/ w * m); nra.
    + apply within_mono with (2 := IH x y ltac:(lia) ltac:(lia)).
      assert (le : C * sup_distance weights x y <= Rmax (/ w) C * m).
      { apply Rle_trans with (C * m); nra. }
      clear - le. induction (length weights); simpl; auto using Forall2.
Qed.

Lemma euclidean_bounds_entries n : bounds_entries n euclidean_distance.
Proof.
  exists 1. split; [lra|].
  assert (all : forall n x y C, length x = n -> length y = n -> 0 <= C -> squares x y <= C * C -> within (repeat C n) x y).
  { clear n. induction n as [|n IH]; intros [|a x] [|b y] C lx ly C0 le; simpl in *; try lia.
    pose proof (squares_nonneg x y). pose proof (Rle_0_sqr (a - b)) as p. unfold Rsqr in p. split.
    - apply square_below; [exact C0|]. rewrite Rabs_sqr_self. lra.
    - apply IH; try lia; lra. }
  intros x y lx ly. rewrite Rmult_1_l. apply all; try assumption; [apply sqrt_pos|].
  unfold euclidean_distance. rewrite sqrt_sqrt by apply squares_nonneg. lra.
Qed.
